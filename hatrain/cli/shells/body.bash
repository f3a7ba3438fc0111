_hatrain() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} verb=${COMP_WORDS[1]} kind words
  # bash makes three words of --option=value.
  if [ "$current" = "=" ]; then
    current=""
  elif [ "$previous" = "=" ]; then
    previous=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  if [ "$COMP_CWORD" -eq 1 ]; then
    kind=verb
  elif ! kind=$(_hatrain_value "$verb" "$previous"); then
    case $current in
      -*) kind=option ;;
      *) kind=$(_hatrain_argument "$verb") ;;
    esac
  fi
  local IFS=$' \t\n'
  # A kind may have words behind it.
  # shellcheck disable=SC2086
  case $kind in
    verb) words=$(_hatrain_named verb) ;;
    option) words=$(_hatrain_options "$verb" | sed 's/:.*//') ;;
    *) words=$(_hatrain_candidates $kind) ;;
  esac
  case $kind:$current in
    # A name may be a path as well, which has a slash, or begins with a dot or a tilde.
    job:*/* | cluster:*/* | model:*/* | *:.* | *:~*) kind="file" ;;
  esac
  IFS=$'\n'
  # Nothing else reads lines into an array in bash 3.2, which macOS has.
  # shellcheck disable=SC2207
  case $kind in
    folder) COMPREPLY=($(compgen -d -- "$current")) ;;
    file) COMPREPLY=($(compgen -f -- "$current")) ;;
    *) COMPREPLY=($(compgen -W "$words" -- "$current")) ;;
  esac
  case $kind in
    folder | file) compopt -o filenames 2> /dev/null ;;
  esac
  return 0
}

complete -F _hatrain hatrain
