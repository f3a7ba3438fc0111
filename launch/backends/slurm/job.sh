# shellcheck shell=bash disable=SC2154 # assigned above this text in job.sbatch
# The batch script runs on the first node of a job. It starts step.sh on every node, and requeues the job if needed.
# The lines above set:
#   job                id of this job, or of this task of an array
#   run                run directory
#   folder             folder with plan.json and launch/
#   nodes              number of nodes
#   stop_grace         seconds in which the ranks must exit after a stop request
#   container_options  further options of srun, with pyxis only

main() {
  mkdir -p "$run/launch" "$folder/launch"
  if declare -F unpack > /dev/null; then unpack; fi

  # A requeued job starts several times. This names one start: the logs and the attempt belong to it.
  export HATRAIN_START=$job.${SLURM_RESTART_COUNT:-0}
  log=$run/launch/slurm-$HATRAIN_START
  before=$(newest_attempt)
  trap 'ask_to_stop "SIGUSR1 from Slurm: the time limit is near, or the job is preempted" &' USR1
  trap 'ask_to_stop "SIGTERM from Slurm: the job is being ended" &' TERM
  export HATRAIN_STOP_GRACE=${HATRAIN_STOP_GRACE:-$stop_grace}

  if (( nodes > 1 )); then
    # The rendezvous is on the first node. Ports below 32768 are not handed out by Linux as ephemeral ports.
    local hosts
    hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
    export MASTER_ADDR=${hosts%%$'\n'*}
    export MASTER_PORT=$((10000 + SLURM_JOB_ID % 20000))
  fi

  # Since Slurm 22.05 srun does not inherit --cpus-per-task from the job.
  export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
  # --wait=0: after training only the first node continues, with the evaluation, for as long as it takes.
  local command=(
    srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --kill-on-bad-exit=1 --wait=0
  )
  if [[ -v container_options ]]; then command+=("${container_options[@]}"); fi

  rm -f -- "$log.code"
  echo "hatrain: the output of node N is in $log-node-N.log" >&2
  "${command[@]}" bash "$folder/launch/step.sh" "$folder" "$log" &
  wait_for_step "$!"
  requeue_or_exit
}

# Sets `code`. bash runs a trap only between two commands and `wait` returns early for it, so wait again.
wait_for_step() { # PID
  code=1
  while kill -0 "$1" 2> /dev/null; do
    code=0
    wait "$1" || code=$?
  done
  # srun returns the highest code of all nodes, including those that it killed. The first node's is the run's.
  if [[ -s $log.code ]]; then code=$(< "$log.code"); fi
}

requeue_or_exit() {
  # 0: finished. 78: can never succeed. 130: stopped by the user.
  case $code in
    0 | 78 | 130) exit "$code" ;;
  esac
  # 75: stopped from outside, the checkpoint is safe. Any other code is a fault. Do not requeue after a fault if no
  # attempt started: nothing would bound the retries.
  if (( code != 75 && $(newest_attempt) == before )); then
    echo "hatrain: no attempt started (exit code $code)" >&2
    exit "$code"
  fi
  # A job that was cancelled, or that Slurm requeued itself, is not in the state RUNNING.
  local state
  state=$(squeue --noheader --jobs="$job" --format=%T) || state=unknown
  if [[ $state == RUNNING ]]; then
    echo "hatrain: exit code $code; requeued" >&2
    scontrol requeue "$job" || echo "hatrain: scontrol requeue failed" >&2
  else
    echo "hatrain: exit code $code; not requeued, because the job is in the state $state" >&2
  fi
  exit "$code"
}

newest_attempt() { # prints its number, or 0
  local path newest=0
  for path in "$run"/attempts/*/; do
    path=$(basename -- "$path")
    if [[ $path =~ ^[0-9]+$ ]] && (( path > newest )); then newest=$path; fi
  done
  echo "$newest"
}

# Writes the stop file, which the ranks check after each step. It is for the attempt of this start: wait until that
# has begun.
# shellcheck disable=SC2329 # called by the traps
ask_to_stop() { # REASON
  local attempt file
  until attempt=$(newest_attempt); (( attempt > before )); do sleep 1; done
  file=$run/attempts/$attempt/.STOP.$BASHPID
  printf '{"reason": "%s", "requeue": true}\n' "$1" > "$file"
  # Keep an existing stop file: it may be the user's, after which the job must not be requeued.
  mv --no-clobber -- "$file" "$run/attempts/$attempt/STOP"
  rm -f -- "$file"
}
