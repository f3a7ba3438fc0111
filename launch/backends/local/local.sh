#!/usr/bin/env bash
# Stands in for a scheduler on a single machine: starts a run, and starts it again after a fault. Entry counts the
# attempts that came to nothing, and ends this with 78 when they are used up.
#
# usage: local.sh RUN_DIRECTORY
set -euo pipefail

run=$1
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)

attempts() {
  find "$run" -mindepth 2 -maxdepth 2 -path '*/attempts/*' | wc -l
}

while true; do
  before=$(attempts)
  code=0
  bash "$here/node.sh" "$run" || code=$?
  case $code in
    0 | 75 | 78 | 130) exit "$code" ;;
  esac
  # A fault before the attempt even began would come back for ever: nothing counts it.
  if (( $(attempts) == before )); then
    echo "hatrain: could not begin (exit code $code)" >&2
    exit "$code"
  fi
  echo "hatrain: a fault (exit code $code); starting again" >&2
done
