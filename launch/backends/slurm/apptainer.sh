# shellcheck shell=bash disable=SC2034,SC2154 # step.sh and the lines above set and use them
# --cleanenv keeps the environment of login scripts out of the container; only these variables are passed. Not with
# --env, which splits values at commas.
for variable in "${variables[@]}"; do
  if [[ -v $variable ]]; then export "APPTAINERENV_$variable=${!variable}"; fi
done
mkdir -p -- "$HF_HOME"
start=(apptainer exec)
if [[ $device == cuda ]]; then start+=(--nv); fi
start+=(--cleanenv --no-home "${mounts[@]/#/--bind=}" --pwd "$workdir" "$image" bash)
