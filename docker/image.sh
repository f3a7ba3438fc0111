#!/usr/bin/env bash
# Builds the image with docker, podman or buildah, whichever is installed, and converts it for other runtimes.
# Called by `make image`, `make sbom`, `make sqsh` and `make sif`.
#
# usage: image.sh build | size | sbom | sqsh | sif
#
# Environment: IMAGE (name, default hatrain:latest); ENGINE (docker, podman or buildah); BUILD_FLAGS (more flags for the
# build); and any argument of the Dockerfile by its name, such as LOCK or TORCH_CUDA_ARCH_LIST.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname -- "$here")
image=${IMAGE:-hatrain:latest}

engine() {
  # The docker client may be installed without a running engine.
  if command -v docker > /dev/null && timeout 20 docker info > /dev/null 2>&1; then
    echo docker
  elif command -v podman > /dev/null; then
    echo podman
  elif command -v buildah > /dev/null; then
    echo buildah
  else
    echo "image.sh: found no running docker, no podman and no buildah; install one of them" >&2
    exit 2
  fi
}

engine=${ENGINE:-$(engine)}

# Prints the URL of the git remote without its credentials; nothing for a local folder.
origin() {
  git -C "$root" config --get remote.origin.url 2> /dev/null | sed -nE 's#^(https?|ssh)://([^@/]*@)?#\1://#p; /^git@/p' || true
}

build() {
  # The loop below reads these by the names of the Dockerfile's arguments.
  export VERSION REVISION SOURCE LICENSES
  VERSION=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$root/hatrain/__init__.py")
  LICENSES=${LICENSES:-$(sed -n 's/^license = "\(.*\)"$/\1/p' "$root/pyproject.toml")}
  REVISION=${REVISION:-$(git -C "$root" describe --always --dirty --abbrev=40 --exclude='*' 2> /dev/null || true)}
  SOURCE=${SOURCE:-$(origin)}
  local name arguments=() flags=()
  while read -r name; do
    if [[ -v $name && ( -n ${!name} || $name == @(SOURCES|DEEPSPEED_OPS|TRITON_COMPILER) ) ]]; then
      arguments+=(--build-arg "$name=${!name}")
    fi
  done < <(sed -nE 's/^ARG ([A-Z_]+)=.*/\1/p' "$here/Dockerfile" | sort --unique)
  read -ra flags <<< "${BUILD_FLAGS:-}"
  # docker and podman cache layers by default; buildah would make a single layer.
  if [[ $engine == buildah ]]; then flags=(--layers "${flags[@]}"); fi
  "$engine" build "${arguments[@]}" "${flags[@]}" --file "$here/Dockerfile" --tag "$image" "$root" >&2
}

# Runs a script of this folder with the image's Python.
run_inside() {
  local script=$1
  shift
  if [[ $engine == buildah ]]; then
    local container code=0
    container=$(buildah from --pull-never "$image")
    buildah run --isolation chroot "$container" -- python3 - "$@" < "$here/$script" || code=$?
    buildah rm "$container" > /dev/null
    return "$code"
  else
    "$engine" run --rm --interactive --network none --entrypoint python3 "$image" - "$@" < "$here/$script"
  fi
}

size() {
  if [[ $engine != buildah ]]; then
    echo "Layers of $image:"
    "$engine" history --human --format '{{.Size}}	{{.CreatedBy}}' "$image" | cut -c -110 | grep -v '^0 \?B' || true
    echo
  fi
  run_inside contents.py sizes
}

sqsh() {
  local from
  case $engine in
    docker) from=dockerd://$image ;;
    podman) from=podman://$image ;;
    *)
      echo "image.sh: enroot cannot import from $engine; use docker, podman or a registry (see docs/image.md)" >&2
      exit 2
      ;;
  esac
  enroot import --output "${image//[:\/]/-}.sqsh" "$from"
}

sif() {
  local file=${image//[:\/]/-}
  if [[ $engine == docker ]]; then
    apptainer build "$file.sif" "docker-daemon:$image"
    return
  fi
  # apptainer cannot read the storage of podman and buildah: go through an archive.
  local folder code=0
  folder=$(mktemp --directory --tmpdir hatrain.XXXXXX)
  "$engine" push "$image" "docker-archive:$folder/image.tar:$image" &&
    apptainer build "$file.sif" "docker-archive:$folder/image.tar" || code=$?
  rm -r "$folder"
  return "$code"
}

case ${1-} in
  build)
    build
    size
    ;;
  size) size ;;
  sbom) run_inside contents.py sbom "$image" ;;
  sqsh) sqsh ;;
  sif) sif ;;
  *)
    echo "usage: image.sh build | size | sbom | sqsh | sif" >&2
    exit 2
    ;;
esac
