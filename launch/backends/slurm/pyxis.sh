# shellcheck shell=bash disable=SC2034,SC2154 # job.sbatch sets and uses them
# srun starts the container on every node.
mkdir -p -- "$HF_HOME"
container_options=(
  "--container-image=$image"
  "--container-mounts=$(IFS=,; echo "${mounts[*]}")"
  "--container-workdir=$workdir"
  --no-container-mount-home
  "--container-env=$(IFS=,; echo "${variables[*]}")"
)
