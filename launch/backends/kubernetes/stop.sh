#!/usr/bin/env bash
# Asks the newest attempt of a run to save a checkpoint and leave. Kubernetes runs it before it ends a pod, and hatrain
# stop in the first pod.
#
# usage: stop.sh RUN_DIRECTORY WORD    WORD: a JSON object, {"reason": "…", "requeue": true}
set -euo pipefail

run=$1 word=$2
entry=1 # the first process of the pod
is_users() { [[ $word == *'"requeue": false'* ]]; }

# The first process is deaf to a signal until it listens, and SIGTERM follows this script at once.
listens() {
  local name value
  while read -r name value; do
    if [[ $name == SigCgt: ]]; then
      return "$(( (16#$value >> 14 & 1) == 0 ))"
    fi
  done < "/proc/$entry/status"
}
for (( look = 0; look < 100; look++ )); do
  if listens; then break; fi
  sleep 0.1
done

newest=0
for folder in "$run"/attempts/*/; do
  number=$(basename -- "$folder")
  if [[ $number =~ ^[1-9][0-9]*$ ]] && (( number > newest )); then newest=$number; fi
done

if (( newest == 0 )) || [[ ! -e $run/lease.json ]]; then
  if is_users; then
    kill -INT "$entry"
    echo "leaves before an attempt has begun"
  fi
  exit 0
fi
stop=$run/attempts/$newest/STOP
# The word of a user, which does not queue again, is never overruled by a scheduler's.
if is_users || [[ ! -e $stop ]]; then
  # Written aside and moved, so that nobody reads a part of it.
  printf '%s\n' "$word" > "$stop.$$"
  mv -- "$stop.$$" "$stop"
fi
echo "attempt $newest saves a checkpoint at its next step and leaves"
