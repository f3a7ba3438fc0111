#!/usr/bin/env bash
# What srun starts on each node: makes the node ready, and starts its share of the run.
#
# usage: step.sh FOLDER LOG, where FOLDER has plan.json and launch/, and names of logs begin with LOG
set -euo pipefail

folder=$1 log=$2
exec >> "$log-node-$SLURM_NODEID.log" 2>&1

# SIGTERM reaches every process of the step. Entry heeds it, and this shell stays for what entry has to say.
trap : TERM

# What Triton, Inductor and DeepSpeed compile stays on the node's own disk: shared ones are slow, and lock badly.
cache=$(mktemp -d /tmp/hatrain-"$SLURM_JOB_ID".XXXXXX)
trap 'rm -rf -- "$cache"' EXIT
export TRITON_CACHE_DIR=$cache/triton TORCHINDUCTOR_CACHE_DIR=$cache/inductor TORCH_EXTENSIONS_DIR=$cache/extensions

code=0
bash "$folder/launch/node.sh" "$folder/plan.json" || code=$?
if [[ $SLURM_NODEID == 0 ]]; then echo "$code" > "$log.code"; fi
exit "$code"
