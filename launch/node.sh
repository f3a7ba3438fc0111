#!/usr/bin/env bash
# Starts hatrain on one node of a run: sets the node's rank and the rendezvous address, then replaces itself with
# hatrain.entry. The same script is used under every scheduler.
#
# usage: node.sh RUN_DIRECTORY | PLAN_JSON
set -euo pipefail

scripts=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=/dev/null
source "$scripts/env.sh"

# A run on one node has rank 0 even inside a larger allocation, and chooses its own port.
HATRAIN_NODE_RANK=0
if (( HATRAIN_NODES > 1 )); then
  HATRAIN_NODE_RANK=${SLURM_NODEID:-${JOB_COMPLETION_INDEX:-0}}
  if [[ -z ${MASTER_ADDR:-} || -z ${MASTER_PORT:-} ]]; then
    echo "hatrain: MASTER_ADDR and MASTER_PORT are not set; set them to the first node and a free port on it" >&2
    exit 78 # a retry would fail in the same way
  fi
  export MASTER_ADDR MASTER_PORT
fi
export HATRAIN_NODE_RANK

# exec, so that signals reach hatrain.entry directly.
exec "$HATRAIN_PYTHON" -m hatrain.entry "$1"
