_hatrain() {
  local current=${words[CURRENT]} previous=${words[CURRENT-1]} verb=${words[2]} kind
  local -a found
  if [[ $current == --*=* ]]; then
    previous=${current%%=*}
    compset -P '*='
  fi
  if (( CURRENT == 2 )); then
    found=("${(@f)$(_hatrain_verbs)}")
    _describe -t verbs verb found
    return
  fi
  if ! kind=$(_hatrain_value "$verb" "$previous"); then
    if [[ $current == -* ]]; then
      found=("${(@f)$(_hatrain_options "$verb")}")
      _describe -t options option found
      return
    fi
    kind=$(_hatrain_argument "$verb")
  fi
  case $kind:$current in
    folder:*) _files -/; return ;;
    # A name may be a path as well, which has a slash, or begins with a dot or a tilde.
    file:* | job:*/* | cluster:*/* | model:*/* | *:.* | *:~*) _files; return ;;
  esac
  [[ -n $kind ]] || return 0
  found=(${(f)"$(_hatrain_candidates ${=kind})"})
  compadd -a found
}

# Autoloaded from $fpath the file is the function's body; sourced, it registers the function.
if [[ ${funcstack[1]-} == _hatrain ]]; then
  _hatrain "$@"
else
  compdef _hatrain hatrain
fi
