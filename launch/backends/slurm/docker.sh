# shellcheck shell=bash disable=SC2034,SC2154 # step.sh and the lines above set and use them
# The container is a child of the docker daemon, not of this shell: remove it by name, also one of an earlier start.
name=hatrain-$SLURM_JOB_ID-$SLURM_NODEID
remove_container() { docker rm --force "$name" > /dev/null 2>&1 || true; }
remove_container
trap 'remove_container; rm -rf -- "$cache"' EXIT

mkdir -p -- "$HF_HOME"
start=(docker run --rm --init --name "$name" --user "$(id -u):$(id -g)")
if [[ $device == cuda ]]; then start+=("--gpus=\"device=$SLURM_STEP_GPUS\""); fi
start+=(--network=host --ipc=host --ulimit=memlock=-1)
if [[ -d /dev/infiniband ]]; then start+=(--device=/dev/infiniband); fi
start+=("${variables[@]/#/--env=}" "${mounts[@]/#/--volume=}" --workdir "$workdir" --entrypoint bash "$image")
