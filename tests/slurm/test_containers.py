"""Jobs in containers on a real Slurm. Stand-ins for the runtimes take the same options, and start the command with the
environment that the runtime would give it."""

import pytest

from tests.slurm.workspace import Workspace, environment

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
# pyxis adds options to srun. It starts the command with the job's environment; variables of the image take precedence.
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
    [
        ("apptainer", "apptainer", APPTAINER),
        ("docker", "docker", DOCKER),
        ("podman-hpc", "podman-hpc", DOCKER),
        ("pyxis", "srun", SRUN),
    ],
)
def test_containers_on_two_nodes_have_the_mounts_and_variables_that_they_need(
    workspace: Workspace, runtime, program, body
):
    programs = workspace.folder / "programs"
    programs.mkdir()
    record = f"""printf '%s\\n' "$@" >> "{workspace.folder}/{program}-${{SLURM_NODEID-}}"\n"""
    (programs / program).write_text(f"#!/bin/bash\n{record}{body}")
    (programs / program).chmod(0o755)
    (workspace.folder / "token").write_text("a secret value")
    (workspace.folder / "token").chmod(0o600)
    workspace.slurm.environ |= {"OUTSIDE": "1"}
    path = workspace.slurm.environ["PATH"]
    workspace.slurm.environ["PATH"] = f"{programs}:{path}"
    try:
        run = workspace.submit(
            hardware__nodes=2,
            cluster={
                "container": {"runtime": runtime, "image": "an image", "mounts": ["/data:/big:ro"]},
                "environment": {"HF_HOME": str(workspace.folder / "hub")},
                "secrets": {"HF_TOKEN": {"file": str(workspace.folder / "token")}},
            },
        )
        assert workspace.end(run) == "COMPLETED", workspace.report(run)
    finally:
        workspace.slurm.environ["PATH"] = path
        del workspace.slurm.environ["OUTSIDE"]

    inside = [environment(run, node) for node in (0, 1)]
    job = workspace.job_id(run)
    for node, variables in enumerate(inside):
        assert (variables["SLURM_NODEID"], variables["SLURM_JOB_ID"]) == (str(node), job)
        assert variables["MASTER_PORT"] == str(10000 + int(job) % 20000)
        assert variables["HATRAIN_START"] == f"{job}.0"
        assert variables["HF_TOKEN"] == "a secret value"
        assert variables["HF_HOME"] == str(workspace.folder / "hub")
        assert variables["TRITON_CACHE_DIR"].startswith("/tmp/hatrain-")
        assert ("OUTSIDE" in variables) == (runtime == "pyxis")
    assert inside[0]["MASTER_ADDR"] == inside[1]["MASTER_ADDR"]

    arguments = "".join(path.read_text() for path in sorted(workspace.folder.glob(f"{program}-*")))
    here = str(workspace.folder)
    for mount in (
        f"{here}:{here}",
        f"{here}/hub:{here}/hub",
        f"{here}/token:{here}/token:ro",
        "/data:/big:ro",
    ):
        assert mount in arguments.replace(",", "\n").replace("=", "\n").splitlines()
    assert "a secret value" not in arguments
    assert (workspace.folder / "hub").is_dir()
