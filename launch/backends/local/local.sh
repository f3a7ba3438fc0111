#!/usr/bin/env bash
# Runs a job on one machine without a scheduler: starts the run, and restarts it after a fault. hatrain.entry counts
# attempts without progress and exits with 78 when limits.retries is used up.
#
# usage: local.sh RUN_DIRECTORY
set -euo pipefail

run=$1
scripts=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)

count_attempts() {
  find "$run" -mindepth 2 -maxdepth 2 -path '*/attempts/*' | wc -l
}

while true; do
  before=$(count_attempts)
  code=0
  bash "$scripts/node.sh" "$run" || code=$?
  case $code in
    0 | 75 | 78 | 130) exit "$code" ;;
  esac
  # Do not restart if no attempt started: nothing would bound the retries.
  if (( $(count_attempts) == before )); then
    echo "hatrain: no attempt started (exit code $code)" >&2
    exit "$code"
  fi
  echo "hatrain: fault (exit code $code); restarting" >&2
done
