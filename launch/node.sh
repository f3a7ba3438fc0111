#!/usr/bin/env bash
# Starts this machine's share of a run: finds out which node this is and where the nodes meet, then becomes entry.
# The same script under every launcher.
#
# usage: node.sh RUN_DIRECTORY | PLAN_JSON
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=/dev/null
source "$here/env.sh"

# A run on one node is node 0, whatever allocation it was started inside of, and picks its own port.
HATRAIN_NODE_RANK=0
if (( HATRAIN_NODES > 1 )); then
  HATRAIN_NODE_RANK=${SLURM_NODEID:-${JOB_COMPLETION_INDEX:-0}}
  if [[ -z ${MASTER_ADDR:-} || -z ${MASTER_PORT:-} ]]; then
    echo "hatrain: MASTER_ADDR, MASTER_PORT: not set; the launcher names the first node and a port of it" >&2
    exit 78 # trying again would not help
  fi
  export MASTER_ADDR MASTER_PORT
fi
export HATRAIN_NODE_RANK

# exec: signals of the launcher reach entry itself.
exec "$HATRAIN_PYTHON" -m hatrain.entry "$1"
