#!/usr/bin/env bash
# Asks the newest attempt of a run to save a checkpoint and exit. Kubernetes runs this before it ends a pod (preStop), and
# `hatrain stop` runs it in the first pod.
#
# usage: stop.sh RUN_DIRECTORY REQUEST    REQUEST: a JSON object, {"reason": "…", "requeue": true}
set -euo pipefail

run=$1 request=$2
entry=1 # hatrain.entry is the first process of the pod
from_user() { [[ $request == *'"requeue": false'* ]]; }

# The first process of a container ignores a signal that it has no handler for, and SIGTERM follows this script at once:
# wait until the handler is installed.
handles_sigterm() {
  local name value
  while read -r name value; do
    if [[ $name == SigCgt: ]]; then
      return "$(( (16#$value >> 14 & 1) == 0 ))"
    fi
  done < "/proc/$entry/status"
}
for (( try = 0; try < 100; try++ )); do
  if handles_sigterm; then break; fi
  sleep 0.1
done

newest=0
for folder in "$run"/attempts/*/; do
  number=$(basename -- "$folder")
  if [[ $number =~ ^[1-9][0-9]*$ ]] && (( number > newest )); then newest=$number; fi
done

if (( newest == 0 )) || [[ ! -e $run/lease.json ]]; then
  if from_user; then
    kill -INT "$entry"
    echo "exits before an attempt starts"
  fi
  exit 0
fi
stop=$run/attempts/$newest/STOP
# A user's request, after which the run is not requeued, overrides Kubernetes' and is never overridden.
if from_user || [[ ! -e $stop ]]; then
  # Write a temporary file and rename it, so that no reader sees a part of it.
  printf '%s\n' "$request" > "$stop.$$"
  mv -- "$stop.$$" "$stop"
fi
echo "attempt $newest saves a checkpoint after its current step and exits"
