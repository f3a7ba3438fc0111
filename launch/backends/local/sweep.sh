#!/usr/bin/env bash
# Makes the runs of a sweep one after another on one machine. A failed run does not stop the sweep; a stopped run does,
# because the user wants the machine back.
#
# usage: sweep.sh RUN_DIRECTORY...
set -euo pipefail

worst=0
for run in "$@"; do
  code=0
  bash "$run/launch/local.sh" "$run" || code=$?
  case $code in
    75 | 130) exit "$code" ;;
  esac
  if (( code > worst )); then worst=$code; fi
done
exit "$worst"
