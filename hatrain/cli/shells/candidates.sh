# shellcheck shell=bash
# Prints the values of a kind, one on a line: those that are always there, and those of this folder.
_hatrain_candidates() {
  [ -z "${ZSH_VERSION-}" ] || emulate -L sh
  local file root
  case $1 in
    words)
      shift
      printf '%s\n' "$@"
      ;;
    job)
      _hatrain_named job
      for file in jobs/*.yaml; do
        [ -e "$file" ] || continue
        file=${file##*/}
        printf '%s\n' "${file%.yaml}"
      done
      ;;
    run | model)
      root=${HATRAIN_RUNS:-runs}
      for file in "$root"/*/plan.json "$root"/*/sweep/*/plan.json; do
        [ -e "$file" ] || continue
        file=${file#"$root"/}
        printf '%s\n' "${file%/plan.json}"
      done
      for file in "$root"/*/sweep; do
        [ -d "$file" ] || continue
        file=${file#"$root"/}
        printf '%s\n' "${file%/sweep}"
      done
      ;;
    cluster)
      _hatrain_named cluster
      for file in "$HOME"/.config/hatrain/clusters/*.yaml; do
        [ -e "$file" ] || continue
        file=${file##*/}
        printf '%s\n' "${file%.yaml}"
      done
      ;;
    *) _hatrain_named "$1" ;;
  esac
}

