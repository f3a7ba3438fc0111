#!/usr/bin/env bash
# Measures hatrain on one GPU, offline, in --minutes N (default 9). docs/gpu.md says what it measures.
#
#   bench/gpu.sh [--minutes N] [--wheels DIR] [--out DIR] [--parts N,N] [--short]
#
# Wheels in DIR (default: bench/wheels, filled by `make gpu-wheels`) go into a temporary folder; nothing is installed.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
wheels=$repository/bench/wheels
limit=60000000 # bytes: what can be carried to a machine without a network
wheels_given=
arguments=()

fail() {
  echo "bench/gpu.sh: $1" >&2
  exit 2
}

while (($#)); do
  case $1 in
    --wheels) wheels=${2:?--wheels: a folder must follow} wheels_given=1; shift 2 ;;
    --wheels=*) wheels=${1#*=} wheels_given=1; shift ;;
    *) arguments+=("$1"); shift ;;
  esac
done

command -v "$python" > /dev/null || fail "$python: no such command; set PYTHON to a Python of 3.11 or newer"
if [[ -n $wheels_given && ! -d $wheels ]]; then
  fail "--wheels: $wheels: no such folder"
fi

target=$(mktemp -d "${TMPDIR:-/tmp}/hatrain-wheels.XXXXXX")
child=
trap 'rm -rf "$target"' EXIT
trap '[[ -z $child ]] || kill -TERM "$child" 2> /dev/null || true' INT TERM

shopt -s nullglob
files=("$wheels"/*.whl)
if ((${#files[@]})); then
  size=$(cat "${files[@]}" | wc -c)
  ((size <= limit)) || fail "$wheels holds $((size / 1000000)) MB, accepted: at most 60; leave bitsandbytes out first"
  options=(--quiet --disable-pip-version-check --no-deps --no-index --no-cache-dir --target "$target")
  if ! output=$("$python" -m pip install "${options[@]}" "${files[@]}" 2>&1); then
    reason=$(grep -m 1 '^ERROR' <<< "$output") || reason=$output
    fail "$wheels: cannot be installed for $("$python" --version): ${reason//$'\n'/ }"
  fi
fi

export PYTHONPATH=$target:$repository${PYTHONPATH:+:$PYTHONPATH}
"$python" -m bench.gpu "${arguments[@]+"${arguments[@]}"}" &
child=$!
# A signal ends the first wait; the second one collects the exit code.
wait "$child" || true
code=0
wait "$child" || code=$?
exit "$code"
