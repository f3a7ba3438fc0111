"""Jobs in containers on a real Slurm. The runtimes are pretended by programs that take the same options and start the
command with as little around it as the runtime would leave; which options there are is in the recorded scripts."""

import pytest

from tests.slurm.house import House, around

APPTAINER = """
shift  # exec
while [[ $1 == --* ]]; do
  if [[ $1 == --pwd ]]; then cd "$2"; shift; fi
  shift
done
inside=()
for name in $(compgen -e APPTAINERENV_); do inside+=("${name#APPTAINERENV_}=${!name}"); done
shift  # the image
exec env -i HOME="$HOME" PATH=/usr/bin:/bin "${inside[@]}" "$@"
"""
DOCKER = """
if [[ $1 == rm ]]; then exit; fi
inside=()
while shift; [[ $1 == -* ]]; do
  case $1 in
    --env=*) name=${1#*=}; inside+=("$name=${!name}") ;;
    --workdir) cd "$2"; shift ;;
    --name | --user) shift ;;
    --entrypoint) entrypoint=$2; shift ;;
  esac
done
shift  # the image
exec env -i PATH=/usr/bin:/bin "${inside[@]}" "$entrypoint" "$@"
"""
SRUN = """
# pyxis adds options to srun; it starts the command with the job's environment, and the image's own in place of it.
options=() inside=()
for word in "$@"; do
  case $word in
    --container-* | --no-container-mount-home) ;;
    *) options+=("$word") ;;
  esac
done
exec /usr/bin/srun "${options[@]}"
"""


@pytest.mark.parametrize(
    ("runtime", "program", "body"),
    [("apptainer", "apptainer", APPTAINER), ("docker", "docker", DOCKER), ("pyxis", "srun", SRUN)],
)
def test_a_job_on_two_nodes_runs_in_containers_that_get_what_they_need_and_no_more(
    house: House, runtime, program, body
):
    programs = house.folder / "programs"
    programs.mkdir()
    said = f"""printf '%s\\n' "$@" >> "{house.folder}/{program}-${{SLURM_NODEID-}}"\n"""
    (programs / program).write_text(f"#!/bin/bash\n{said}{body}")
    (programs / program).chmod(0o755)
    (house.folder / "token").write_text("a secret of the house")
    (house.folder / "token").chmod(0o600)
    house.cluster.environ |= {"OUTSIDE": "1"}
    path = house.cluster.environ["PATH"]
    house.cluster.environ["PATH"] = f"{programs}:{path}"
    try:
        run = house.submit(
            hardware__nodes=2,
            place={
                "container": {"runtime": runtime, "image": "an image", "mounts": ["/data:/big:ro"]},
                "environment": {"HF_HOME": str(house.folder / "hub")},
                "secrets": {"HF_TOKEN": {"file": str(house.folder / "token")}},
            },
        )
        assert house.ended(run) == "COMPLETED", house.tale(run)
    finally:
        house.cluster.environ["PATH"] = path
        del house.cluster.environ["OUTSIDE"]

    inside = [around(run, node) for node in (0, 1)]
    job = house.id(run)
    for node, told in enumerate(inside):
        assert (told["SLURM_NODEID"], told["SLURM_JOB_ID"]) == (str(node), job)
        assert told["MASTER_PORT"] == str(10000 + int(job) % 20000)
        assert told["HATRAIN_START"] == f"{job}.0"
        assert told["HF_TOKEN"] == "a secret of the house"
        assert told["HF_HOME"] == str(house.folder / "hub")
        assert told["TRITON_CACHE_DIR"].startswith("/tmp/hatrain-")
        assert ("OUTSIDE" in told) == (runtime == "pyxis")
    assert inside[0]["MASTER_ADDR"] == inside[1]["MASTER_ADDR"]

    words = "".join(path.read_text() for path in sorted(house.folder.glob(f"{program}-*")))
    here = str(house.folder)
    for mount in (
        f"{here}:{here}",
        f"{here}/hub:{here}/hub",
        f"{here}/token:{here}/token:ro",
        "/data:/big:ro",
    ):
        assert mount in words.replace(",", "\n").replace("=", "\n").splitlines()
    assert "a secret of the house" not in words
    assert (house.folder / "hub").is_dir()
