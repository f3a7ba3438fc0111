#!/usr/bin/env bash
# What srun starts on each node: makes the node ready, and starts its share of the run.
#
# usage: step.sh FOLDER LOG, where FOLDER has plan.json and launch/, and names of logs begin with LOG
set -euo pipefail

folder=$1 log=$2
exec >> "$log-node-$SLURM_NODEID.log" 2>&1

# SIGTERM reaches every process of the step. Entry heeds it, and this shell stays for what entry has to say.
trap : TERM

# The container is no child of this shell: it is ended by name, also what an earlier start left.
name=hatrain-$SLURM_JOB_ID-$SLURM_NODEID
docker rm --force "$name" > /dev/null 2>&1 || true
devices=()
if [[ -d /dev/infiniband ]]; then devices+=(--device=/dev/infiniband); fi

# What Triton, Inductor and DeepSpeed compile stays on the node's own disk: shared ones are slow, and lock badly.
cache=$(mktemp -d /tmp/hatrain-"$SLURM_JOB_ID".XXXXXX)
trap 'docker rm --force "$name" > /dev/null 2>&1 || true; rm -rf -- "$cache"' EXIT
export TRITON_CACHE_DIR=$cache/triton TORCHINDUCTOR_CACHE_DIR=$cache/inductor TORCH_EXTENSIONS_DIR=$cache/extensions

# Folders are inside where they are outside.
export HF_HOME=${HF_HOME:-$HOME/.cache/huggingface}
mkdir -p -- "$HF_HOME"
mounts=(
  /home/ada/house:/home/ada/house
  "$HF_HOME:$HF_HOME"
  "$cache:$cache"
)

passed=(HOME SLURM_JOB_ID SLURM_NODEID MASTER_ADDR MASTER_PORT HATRAIN_START HATRAIN_STOP_GRACE HF_HOME TRITON_CACHE_DIR TORCHINDUCTOR_CACHE_DIR TORCH_EXTENSIONS_DIR)
code=0
docker run --rm --init --name "$name" --user "$(id -u):$(id -g)" --gpus="\"device=$SLURM_STEP_GPUS\"" \
  --network=host --ipc=host --ulimit=memlock=-1 "${devices[@]}" \
  "${passed[@]/#/--env=}" "${mounts[@]/#/--volume=}" --workdir /home/ada/house \
  --entrypoint bash ghcr.io/ada/hatrain:1 "$folder/launch/node.sh" "$folder/plan.json" || code=$?
if [[ $SLURM_NODEID == 0 ]]; then echo "$code" > "$log.code"; fi
exit "$code"
