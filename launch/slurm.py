"""Plan → {path: text} for Slurm: job.sbatch, which sbatch takes, and step.sh, which srun starts on each node. Pure: it
spells a plan, and neither decides nor starts anything."""

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from hatrain.errors import BadInput
from hatrain.place import Container, FileSecret, SlurmPlace
from hatrain.plan import Plan, Request
from hatrain.run import RunDirectory
from hatrain.spec import seconds
from launch import contents

JOB = "launch/job.sbatch"
STEP = "launch/step.sh"
FIRST_PORT, PORTS = 10000, 20000
"""Where the nodes of a job meet: below 32768, from where on Linux gives ports to whoever asks for any."""
EARLY_SECONDS = 30
"""Entry gives up on ranks that do not leave so long before Slurm would end them, and itself with them."""


def files(plan: Plan) -> dict[str, str]:
    """Return the files of a run directory that start it, by their path in it. plan.json is not among them.

    Raises BadInput for a path that Slurm, or the container's runtime, has no way to write.
    """
    run = plan.paths.run
    head = [
        "job=$SLURM_JOB_ID",
        f"run={shlex.quote(run)}",
        "# plan.json and launch/ are there, or in the folder that sbatch was given behind this script.",
        "folder=${1:-$run}",
        'mkdir -p "$run/launch"',
    ]
    log = _pattern(f"{run}/launch/slurm-") + "%j.log"
    return {**contents.shared(plan), STEP: _step(plan), JOB: _job(plan, _directives(plan, log), head)}


def stream(plan: Plan) -> str:
    """Return one batch script that holds every file: to be read, kept, or piped to sbatch. Raises as `files` does."""
    carried = {"plan.json": contents.plan_json(plan), **contents.shared(plan), STEP: _step(plan)}
    head = [
        "job=$SLURM_JOB_ID",
        f"run={shlex.quote(plan.paths.run)}",
        "# Small files, in a folder that every node sees; entry takes them over into the run directory.",
        "folder=$run/launch/sbatch-$job",
        'mkdir -p "$folder/launch"',
        *contents.written(carried, "folder"),
    ]
    log = _pattern(f"{plan.paths.workdir}/") + "%x-%j.log"
    return _job(plan, _directives(plan, log), head)


def how(folder: str) -> str:
    """Return the command that starts what was written to a folder; what the job says goes to where it runs."""
    here = str(Path(folder).absolute())
    return shlex.join(["sbatch", "--output=%x-%j.log", f"{here}/{JOB}", here])


def array(plans: Sequence[Plan], folder: Path) -> str:
    """Return the batch script of a sweep: an array, each task of which is the run of its number.

    Raises BadInput when the runs ask Slurm for different things, and as `files` does.
    """
    first = plans[0]
    for plan in plans[1:]:
        asked, before = _asked(plan), _asked(first)
        if different := [key for key in asked if asked[key] != before[key]]:
            raise BadInput(
                f"the runs of a sweep are tasks of one array, which ask Slurm for the same; these differ in "
                f"{', '.join(different)}: submit them one by one"
            )
    head = [
        "# Each task is the run of its number. $SLURM_JOB_ID of the last is the number of the whole array.",
        "job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID",
        f"run={shlex.quote(str(folder))}/sweep/$SLURM_ARRAY_TASK_ID",
        "folder=$run",
        'mkdir -p "$run/launch"',
    ]
    numbers = [int(Path(plan.paths.run).name) for plan in plans]
    log = _pattern(f"{folder}/launch/slurm-") + "%A_%a.log"
    return _job(first, [*_directives(first, log), f"--array={_ranges(numbers)}"], head)


def _asked(plan: Plan) -> dict[str, object]:
    return {"nodes": plan.nodes, **_request(plan).model_dump(exclude={"name"})}


def _ranges(numbers: Sequence[int]) -> str:
    whole = list(range(numbers[0], numbers[0] + len(numbers)))
    return f"{whole[0]}-{whole[-1]}" if list(numbers) == whole else ",".join(map(str, numbers))


def _place(plan: Plan) -> SlurmPlace:
    assert isinstance(plan.place, SlurmPlace)
    return plan.place


def _request(plan: Plan) -> Request:
    assert plan.request is not None
    return plan.request


# --- what sbatch reads --------------------------------------------------------------------------------------


def _directives(plan: Plan, log: str) -> list[str]:
    """Return sbatch's options, comments among them. sbatch expands no variables here, so that all is literal."""
    place, request = _place(plan), _request(plan)
    each = [
        ("job-name", request.name),
        ("partition", place.partition),
        ("account", place.account),
        ("qos", place.qos),
        ("reservation", place.reservation),
        ("constraint", place.constraint),
        ("nodes", plan.nodes),
        ("ntasks", plan.nodes),
        ("ntasks-per-node", 1),
        ("cpus-per-task", request.cpus),
        ("mem", None if request.memory is None else f"{-(-request.memory // 2**20)}M"),
        _gpus(place, request),
        ("time", _time(request.time)),
        ("chdir", plan.paths.workdir),
        ("output", log),
        ("mail-user", place.mail and place.mail.user),
        ("mail-type", place.mail and ",".join(place.mail.events)),
    ]
    lead = seconds(place.signal_lead)
    return [
        *(_directive(name, str(value)) for name, value in each if value is not None),
        *(["--exclusive"] if place.exclusive else []),
        *(_directive(name, value) for name, value in place.directives.items()),
        "# A job that is queued again goes on in its log.",
        "--requeue",
        "--open-mode=append",
        "# So many seconds before the end a warning comes, to this shell alone (B:): torchrun would die of it.",
        f"--signal=B:USR1@{lead}",
    ]


def _gpus(place: SlurmPlace, request: Request) -> tuple[str, str | None]:
    counted = f"{request.gpu_type}:{request.gpus}" if request.gpu_type else str(request.gpus)
    if place.gpus_style == "gres":
        return "gres", f"gpu:{counted}" if request.gpus else None
    return "gpus-per-node", counted if request.gpus else None


def _time(total: int) -> str:
    """Return seconds as Slurm writes a time."""
    minutes, second = divmod(total, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days}-{hour:02}:{minute:02}:{second:02}" if days else f"{hour:02}:{minute:02}:{second:02}"


def _directive(name: str, value: str | None) -> str:
    """Return one option as sbatch reads it in a script: a backslash is undone in and out of quotes, a `#` outside of
    them begins a comment, and nothing else is special (measured with 22.05)."""
    if value is None:
        return f"--{name}"
    if not value.isprintable():
        raise BadInput(f"{name}: found {value!r}; a directive of sbatch is one line of printable text")
    if re.fullmatch(r"[\w./:@%+,=-]+", value, re.ASCII):
        return f"--{name}={value}"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'--{name}="{escaped}"'


def _pattern(path: str) -> str:
    """Return a path as it stands in a pattern of a log's name."""
    if "\\" in path:
        raise BadInput(f"{path}: Slurm fills in no job's id behind a backslash; use a folder without one")
    return path.replace("%", "%%")


# --- the batch script ---------------------------------------------------------------------------------------

_BEGINNING = """
# One name for everything of this start, of the several that a job has which is queued again.
export HATRAIN_START=$job.${SLURM_RESTART_COUNT:-0}
log=$run/launch/slurm-$HATRAIN_START

newest_attempt() { # prints its number, 0 if there is none
  local path newest=0
  for path in "$run"/attempts/*/; do
    path=$(basename -- "$path")
    if [[ $path =~ ^[0-9]+$ ]] && (( path > newest )); then newest=$path; fi
  done
  echo "$newest"
}
before=$(newest_attempt)

# A warning becomes a file, for which the ranks look after each step. It is for the attempt of this job: one that has
# not begun yet is waited for.
# shellcheck disable=SC2329 # the traps call it
ask_to_stop() { # REASON
  local attempt file
  until attempt=$(newest_attempt); (( attempt > before )); do sleep 1; done
  file=$run/attempts/$attempt/.STOP.$BASHPID
  printf '{"reason": "%s", "requeue": true}\\n' "$1" > "$file"
  # A stop that is there already may be the user's, who wants no further attempt: it stays.
  mv --no-clobber -- "$file" "$run/attempts/$attempt/STOP"
  rm -f -- "$file"
}
trap 'ask_to_stop "SIGUSR1 of Slurm: the time of the job is nearly up, or it is preempted" &' USR1
trap 'ask_to_stop "SIGTERM of Slurm: the job is ended" &' TERM
"""

_MEETING = f"""
# The nodes meet at the first of them, on a port that goes with the job.
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
export MASTER_ADDR=${{hosts%%$'\\n'*}}
export MASTER_PORT=$(({FIRST_PORT} + SLURM_JOB_ID % {PORTS}))
"""

_END = """
# bash tends to a trap between two commands only; so the step runs beside this shell, which waits, and waits again.
code=1
while kill -0 "$step" 2> /dev/null; do
  code=0
  wait "$step" || code=$?
done
# srun's own code is the highest of all nodes, those that it had to end among them; the first node's is the run's.
if [[ -s $log.code ]]; then code=$(< "$log.code"); fi

# 0: finished. 78: can never succeed as it stands. 130: the user stopped it.
case $code in
  0 | 78 | 130) exit "$code" ;;
esac
# 75: stopped from outside, the checkpoint is safe. Any other: a fault, of which entry counts how many come to nothing.
# What did not even begin is counted by nobody, and would come back for ever.
if (( code != 75 && $(newest_attempt) == before )); then
  echo "hatrain: could not begin (exit code $code)" >&2
  exit "$code"
fi
# Somebody may have cancelled the job, or Slurm has queued it again already: then it does not run any more.
state=$(squeue --noheader --jobs="$job" --format=%T) || state=unknown
if [[ $state == RUNNING ]]; then
  echo "hatrain: left with exit code $code; queued again" >&2
  scontrol requeue "$job" || echo "hatrain: Slurm would not have it" >&2
else
  echo "hatrain: left with exit code $code; not queued again, for the job's state is $state" >&2
fi
exit "$code"
"""


def _job(plan: Plan, directives: Sequence[str], head: Sequence[str]) -> str:
    """Return the batch script: directives, what `head` says of where things are, the step, the end."""
    grace = max(seconds(_place(plan).signal_lead) - EARLY_SECONDS, 1)
    shape = _count(plan.nodes, "node") + " with " + _count(plan.processes_per_node, "process", "es")
    parts = [
        "#!/usr/bin/env bash",
        f"# {plan.job.name} on the cluster {json.dumps(plan.cluster)}: {shape}{' each' if plan.nodes > 1 else ''}, "
        f"sharding {plan.sharding}. hatrain wrote it.",
        "#",
        *(line if line.startswith("#") else f"#SBATCH {line}" for line in directives),
        "",
        "set -euo pipefail",
        "",
        *head,
        _BEGINNING,
        "# Ranks that do not leave are ended while there is time left to queue the job again.",
        f"export HATRAIN_STOP_GRACE=${{HATRAIN_STOP_GRACE:-{grace}}}",
        *([_MEETING.rstrip()] if plan.nodes > 1 else []),
        *_srun(plan),
        _END.rstrip(),
    ]
    return "\n".join(parts) + "\n"


def _count(number: int, thing: str, plural: str = "s") -> str:
    return f"{number} {thing}{'' if number == 1 else plural}"


def _srun(plan: Plan) -> Iterator[str]:
    container = _place(plan).container
    options: list[str] = []
    if container and container.runtime == "pyxis":
        yield from ["", *_mounts(plan, container)]
        options = [
            f"--container-image={shlex.quote(container.image)}",
            '--container-mounts="$(IFS=,; echo "${mounts[*]}")"',
            f"--container-workdir={shlex.quote(plan.paths.workdir)}",
            f"--no-container-mount-home --container-env={','.join(['HOME', *_ours(plan)])}",
        ]
    yield "\n# srun takes the cores of a task from here only, since Slurm 22.05."
    yield "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK"
    yield 'rm -f -- "$log.code"'
    yield 'echo "hatrain: what each node says goes to $log-node-N.log" >&2'
    # --wait=0: nodes that have trained leave, and the first one judges the model as long as it takes.
    words = [
        f"srun --nodes={plan.nodes} --ntasks={plan.nodes} --ntasks-per-node=1 --kill-on-bad-exit=1 --wait=0",
        *options,
        f'bash "$folder/{STEP}" "$folder" "$log" &',
    ]
    yield " \\\n  ".join(words)
    yield "step=$!"


# --- what srun starts on each node --------------------------------------------------------------------------

_STEP_BEGINNING = """
# What srun starts on each node: makes the node ready, and starts its share of the run.
#
# usage: step.sh FOLDER LOG, where FOLDER has plan.json and launch/, and names of logs begin with LOG
set -euo pipefail

folder=$1 log=$2
exec >> "$log-node-$SLURM_NODEID.log" 2>&1

# SIGTERM reaches every process of the step. Entry heeds it, and this shell stays for what entry has to say.
trap : TERM
"""

_MODULES = """
# A shell that nobody logged in to may know no modules yet.
for file in /etc/profile.d/{modules,lmod,z00_lmod}.sh; do
  # shellcheck source=/dev/null
  if ! command -v module > /dev/null && [[ -r $file ]]; then source "$file"; fi
done"""

_CACHE = """
# What Triton and Inductor compile stays on the node's own disk: shared ones are slow, and lock badly.
cache=$(mktemp -d {scratch}/hatrain-"$SLURM_JOB_ID".XXXXXX)
trap '{end}rm -rf -- "$cache"' EXIT
export TRITON_CACHE_DIR=$cache/triton TORCHINDUCTOR_CACHE_DIR=$cache/inductor
"""

_STEP_END = """
if [[ $SLURM_NODEID == 0 ]]; then echo "$code" > "$log.code"; fi
exit "$code"
"""


def _step(plan: Plan) -> str:
    place = _place(plan)
    runtime = place.container.runtime if place.container else None
    end = 'docker rm --force "$name" > /dev/null 2>&1 || true; ' if runtime == "docker" else ""
    parts = [
        "#!/usr/bin/env bash",
        *(
            ["# shellcheck disable=SC1090,SC1091 # what the cluster's own lines source is there"]
            if place.setup
            else []
        ),
        _STEP_BEGINNING.strip(),
        *_setup(place),
        *([_DOCKER.rstrip()] if runtime == "docker" else []),
        _CACHE.format(scratch=shlex.quote(place.scratch), end=end).rstrip(),
        *(["", *_mounts(plan, place.container)] if place.container and runtime != "pyxis" else []),
        "",
        *_node(plan),
        _STEP_END.strip(),
    ]
    return "\n".join(parts) + "\n"


def _setup(place: SlurmPlace) -> Iterator[str]:
    if not (place.modules or place.setup):
        return
    yield "\n# What the cluster needs first. Others' scripts use variables that are not set."
    yield "set +u"
    if place.modules:
        yield _MODULES.strip()
        yield shlex.join(["module", "load", *place.modules])
    yield from place.setup
    yield "set -u"


def _node(plan: Plan) -> Iterator[str]:
    container = _place(plan).container
    words = ["bash"]
    if container and container.runtime == "apptainer":
        yield f"passed=({' '.join([*_passed(plan), 'CUDA_VISIBLE_DEVICES'])})"
        yield _PASS_ON.strip()
        nvidia = "--nv " if plan.device == "cuda" else ""
        words = [
            f'apptainer exec {nvidia}--cleanenv --no-home "${{mounts[@]/#/--bind=}}"',
            f"--pwd {shlex.quote(plan.paths.workdir)} {shlex.quote(container.image)} bash",
        ]
    if container and container.runtime == "docker":
        gpus = ' --gpus="\\"device=$SLURM_STEP_GPUS\\""' if plan.device == "cuda" else ""
        yield f"passed=(HOME {' '.join(_passed(plan))})"
        words = [
            f'docker run --rm --init --name "$name" --user "$(id -u):$(id -g)"{gpus}',
            '--network=host --ipc=host --ulimit=memlock=-1 "${devices[@]}"',
            f'"${{passed[@]/#/--env=}}" "${{mounts[@]/#/--volume=}}" --workdir {shlex.quote(plan.paths.workdir)}',
            f"--entrypoint bash {shlex.quote(container.image)}",
        ]
    yield "code=0"
    yield " \\\n  ".join(words) + ' "$folder/launch/node.sh" "$folder/plan.json" || code=$?'


# --- containers ---------------------------------------------------------------------------------------------

_PASS_ON = """
# A clean environment keeps what a shell's profile says out of the container; these alone go through. Not by --env,
# which takes a comma for the end of a value.
for variable in "${passed[@]}"; do
  if [[ -v $variable ]]; then export "APPTAINERENV_$variable=${!variable}"; fi
done
"""

_DOCKER = """
# The container is no child of this shell: it is ended by name, also what an earlier start left.
name=hatrain-$SLURM_JOB_ID-$SLURM_NODEID
docker rm --force "$name" > /dev/null 2>&1 || true
devices=()
if [[ -d /dev/infiniband ]]; then devices+=(--device=/dev/infiniband); fi
"""


def _ours(plan: Plan) -> list[str]:
    """Return the variables of job.sbatch that a container has to see; env.sh brings the cluster's own."""
    meeting = ["MASTER_ADDR", "MASTER_PORT"] if plan.nodes > 1 else []
    return [*meeting, "HATRAIN_START", "HATRAIN_STOP_GRACE", "HF_HOME"]


def _passed(plan: Plan) -> list[str]:
    """Return all variables that a container which step.sh starts has to see."""
    return ["SLURM_JOB_ID", "SLURM_NODEID", *_ours(plan), "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"]


def _mounts(plan: Plan, container: Container) -> Iterator[str]:
    """Yield lines of bash that make `mounts`, FOLDER:INSIDE each, which every runtime writes alike."""
    place = _place(plan)
    run = RunDirectory(Path(plan.paths.run))
    root = run.folder.parents[2 if run.in_sweep else 0]
    ours = list(dict.fromkeys([plan.paths.workdir, str(root), str(Path(plan.paths.models).parent)]))
    kept = [path for path in ours if not any(Path(other) in Path(path).parents for other in ours)]
    given = plan.environment.get("HF_HOME")
    secrets = [one.file for one in place.secrets.values() if isinstance(one, FileSecret)]
    for path in [*kept, *([given] if given else []), place.scratch, *secrets]:
        if found := re.search(r"[:,]", path):
            raise BadInput(
                f"{path}: {found[0]!r} in a path that {container.runtime} is to mount; use one without"
            )
    yield "# Folders are inside where they are outside."
    yield f"export HF_HOME={shlex.quote(given) if given else '${HF_HOME:-$HOME/.cache/huggingface}'}"
    yield 'mkdir -p -- "$HF_HOME"'
    yield "mounts=("
    for path in kept:
        yield f"  {shlex.quote(f'{path}:{path}')}"
    yield '  "$HF_HOME:$HF_HOME"'
    if container.runtime == "pyxis":
        yield f"  {shlex.quote(f'{place.scratch}:{place.scratch}')}"
    else:
        yield '  "$cache:$cache"'
    for secret in secrets:
        path = contents.word(secret)
        yield f"  {path}:{path}:ro"
    for mount in container.mounts:
        yield f"  {shlex.quote(mount)}"
    yield ")"
