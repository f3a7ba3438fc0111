# shellcheck shell=bash disable=SC2034,SC2154 # step.sh and the lines above set and use them
# Rootless: root inside is this user outside. A start that was killed may have left its container.
name=hatrain-$SLURM_JOB_ID-$SLURM_NODEID
remove_container() { podman-hpc rm --force "$name" > /dev/null 2>&1 || true; }
remove_container
trap 'remove_container; rm -rf -- "$cache"' EXIT

mkdir -p -- "$HF_HOME"
start=(podman-hpc run --rm --init --name "$name")
if [[ $device == cuda ]]; then start+=(--gpu); fi
start+=(--network=host --ipc=host --ulimit=memlock=-1)
if [[ -d /dev/infiniband ]]; then start+=(--device=/dev/infiniband); fi
start+=("${variables[@]/#/--env=}" "${mounts[@]/#/--volume=}" --workdir "$workdir" --entrypoint bash "$image")
