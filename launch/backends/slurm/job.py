"""job.sbatch: one start of a job on its first node, from the directives to whether it is queued again."""

import json
import shlex
from collections.abc import Iterator, Sequence

from hatrain.contract.plan import Plan
from hatrain.contract.spec import seconds
from launch.backends.slurm.asked import place_of
from launch.backends.slurm.containers import mounts, ours

STEP = "launch/step.sh"
FIRST_PORT, PORTS = 10000, 20000
"""Where the nodes of a job meet: below 32768, from where on Linux gives ports to whoever asks for any."""
EARLY_SECONDS = 30
"""Entry gives up on ranks that do not leave so long before Slurm would end them, and itself with them."""

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


def job_sbatch(plan: Plan, directives: Sequence[str], head: Sequence[str]) -> str:
    """Return the batch script: directives, what `head` says of where things are, the step, the end."""
    grace = max(seconds(place_of(plan).signal_lead) - EARLY_SECONDS, 1)
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
    container = place_of(plan).container
    options: list[str] = []
    if container and container.runtime == "pyxis":
        yield from ["", *mounts(plan, container)]
        options = [
            f"--container-image={shlex.quote(container.image)}",
            '--container-mounts="$(IFS=,; echo "${mounts[*]}")"',
            f"--container-workdir={shlex.quote(plan.paths.workdir)}",
            f"--no-container-mount-home --container-env={','.join(['HOME', *ours(plan)])}",
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
