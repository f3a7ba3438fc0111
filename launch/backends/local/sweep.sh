#!/usr/bin/env bash
# Makes the runs of a sweep one after another, for one machine does not share its GPUs well. A run that fails does not
# keep the others from their turn; one that was stopped does, for somebody wants the machine back.
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
