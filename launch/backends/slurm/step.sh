#!/usr/bin/env bash
# Prepares one node, and starts its share of the run. srun runs this on every node.
#
# usage: step.sh FOLDER LOG    FOLDER contains plan.json and launch/; log files are named LOG-…
set -euo pipefail

folder=$1 log=$2
exec >> "$log-node-$SLURM_NODEID.log" 2>&1

# SIGTERM reaches every process of the step. hatrain.entry handles it, and this shell waits for its exit code.
trap : TERM

# Modules and set-up lines of the cluster file; others' scripts may use unset variables.
set +u
# shellcheck source=/dev/null
source "$folder/launch/setup.sh"
set -u

# Compiled code of Triton, Inductor and DeepSpeed stays on the node's own disk: a shared one is slow, and its file locks
# are unreliable.
# A start that was killed leaves its own: the next start of the job on this node removes it.
cache=${scratch:?}/hatrain-$SLURM_JOB_ID-$SLURMD_NODENAME
rm -rf -- "$cache".*
cache=$(mktemp -d "$cache.XXXXXX")
trap 'rm -rf -- "$cache"' EXIT
export TRITON_CACHE_DIR=$cache/triton TORCHINDUCTOR_CACHE_DIR=$cache/inductor TORCH_EXTENSIONS_DIR=$cache/extensions

# Sets `start`, the command that starts bash on the node or in a container.
# shellcheck source=/dev/null
source "$folder/launch/container.sh"

code=0
"${start[@]:?}" "$folder/launch/node.sh" "$folder/plan.json" || code=$?
if [[ $SLURM_NODEID == 0 ]]; then echo "$code" > "$log.code"; fi
exit "$code"
