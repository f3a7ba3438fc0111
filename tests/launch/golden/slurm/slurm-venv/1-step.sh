#!/usr/bin/env bash
# shellcheck disable=SC1090,SC1091 # what the cluster's own lines source is there
# What srun starts on each node: makes the node ready, and starts its share of the run.
#
# usage: step.sh FOLDER LOG, where FOLDER has plan.json and launch/, and names of logs begin with LOG
set -euo pipefail

folder=$1 log=$2
exec >> "$log-node-$SLURM_NODEID.log" 2>&1

# SIGTERM reaches every process of the step. Entry heeds it, and this shell stays for what entry has to say.
trap : TERM

# What the cluster needs first. Others' scripts use variables that are not set.
set +u
# A shell that nobody logged in to may know no modules yet.
for file in /etc/profile.d/{modules,lmod,z00_lmod}.sh; do
  # shellcheck source=/dev/null
  if ! command -v module > /dev/null && [[ -r $file ]]; then source "$file"; fi
done
module load cuda/12.8
source .venv/bin/activate
set -u

# What Triton, Inductor and DeepSpeed compile stays on the node's own disk: shared ones are slow, and lock badly.
cache=$(mktemp -d /tmp/hatrain-"$SLURM_JOB_ID".XXXXXX)
trap 'rm -rf -- "$cache"' EXIT
export TRITON_CACHE_DIR=$cache/triton TORCHINDUCTOR_CACHE_DIR=$cache/inductor TORCH_EXTENSIONS_DIR=$cache/extensions

code=0
bash "$folder/launch/node.sh" "$folder/plan.json" || code=$?
if [[ $SLURM_NODEID == 0 ]]; then echo "$code" > "$log.code"; fi
exit "$code"
