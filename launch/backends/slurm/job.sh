# shellcheck shell=bash disable=SC2154 # assigned above this text in job.sbatch
# The batch script runs on the first node of a job. It starts step.sh on every node, and requeues the job if needed.
# The lines above set:
#   job                id of this job, or of this task of an array
#   run                run directory
#   folder             folder with plan.json and launch/
#   nodes              number of nodes
#   stop_grace         seconds in which the ranks must exit after a stop request
#   time_limit         seconds that Slurm grants one start
#   srun_options       further options of srun, if the cluster file has some
#   container_options  further options of srun, with pyxis only

main() {
  mkdir -p "$run/launch" "$folder/launch"
  if declare -F unpack > /dev/null; then unpack; fi
  if [[ $folder != "$run" ]]; then register; fi

  # A requeued job starts several times. This names one start: the logs and the attempt belong to it.
  restarts=${SLURM_RESTART_COUNT:-0}
  export HATRAIN_JOB=$job HATRAIN_START=$job.$restarts
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
  # --export=ALL: a job that was submitted with --export=NONE would hand the steps no variables, not even PATH.
  local command=(
    srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --kill-on-bad-exit=1 --wait=0 --export=ALL
  )
  if [[ -v srun_options ]]; then command+=("${srun_options[@]}"); fi
  if [[ -v container_options ]]; then command+=("${container_options[@]}"); fi

  rm -f -- "$log.code" "$log.late"
  echo "hatrain: the output of node N is in $log-node-N.log" >&2
  # Slurm tells on srun's stderr that it killed a step for its memory.
  "${command[@]}" bash "$folder/launch/step.sh" "$folder" "$log" 2> >(tee "$log.srun" >&2) &
  step=$!
  wait_for_step "$step"
  record_memory_kill
  requeue_or_exit
}

# Sets `code`. bash runs a trap only between two commands and `wait` returns early for it, so wait again. bash remembers
# the code of a step that has ended already.
wait_for_step() { # PID
  while kill -0 "$1" 2> /dev/null; do wait "$1" || true; done
  code=0
  wait "$1" || code=$?
  # srun returns the highest code of all nodes, including those that it killed. The first node's is the run's.
  # After the failure of a node it may return 0 although no task has ended.
  if [[ -s $log.code ]]; then code=$(< "$log.code"); elif (( code == 0 )); then code=1; fi
  if [[ -e $log.late ]]; then code=75; else rm -f -- "$run/launch/slurm-$job".*.late; fi
}

# A script that was sent by hand: lets `hatrain status`, `logs` and `cancel` find its run and its log before hatrain
# itself is up. hatrain records the job where the run exists already, once it holds the run's lease.
register() {
  local output here
  if [[ ! -e $run/launch/slurm-$job.log ]] && output=$(readlink "/proc/$$/fd/1"); then
    ln -s -- "$output" "$run/launch/slurm-$job.log" || true
  fi
  if [[ -e $run/plan.json ]]; then return; fi
  here=$run/.plan.json.$job
  cp -- "$folder/plan.json" "$here"
  mv --no-clobber -- "$here" "$run/plan.json"
  rm -f -- "$here"
  record "\"event\": \"submitted\", \"user\": \"$(id --user --name || id --user)\""
}

# Such a kill takes hatrain too, which then records nothing.
record_memory_kill() {
  local advice="the job needed more memory than Slurm gave it; raise memory in the cluster file"
  if (( code != 0 )) && grep --quiet --ignore-case --extended-regexp "memory limit|oom.?kill" "$log.srun"; then
    echo "hatrain: $advice" >&2
    record "\"event\": \"killed\", \"reason\": \"$advice\"" || true
  fi
  rm -f -- "$log.srun"
}

# Appends an event to the run's record.
record() { # FIELDS
  printf '{"time": "%s", "job": "%s", %s}\n' "$(date --utc +%Y-%m-%dT%H:%M:%S+00:00)" "$job" "$1" >> "$run/record.jsonl"
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
  # Slurm ends this script once the job is queued again: it has to say so first.
  trap '' USR1 TERM
  requeue
  exit "$code"
}

# Asks Slurm to queue the job again, for as long as the job has time: a controller that restarts must not end a run.
requeue() {
  local state starts problem waiting=0 refusals=0
  while true; do
    # A job that was cancelled is not in the state RUNNING; one that Slurm started again meanwhile has another count.
    if read -r state starts < <(ask squeue --noheader --states=all --jobs="$job" --Format=State:30,RestartCnt:10); then
      if [[ $state != RUNNING || $starts != "$restarts" ]]; then
        echo "hatrain: exit code $code; not requeued, because the job is in the state $state (start $starts)" >&2
        return
      fi
      if ask scontrol requeue "$job"; then
        echo "hatrain: exit code $code; requeued" >&2
        return
      fi
      refusals=$((refusals + 1))
    fi
    problem=$(tr --squeeze-repeats '\n"\\[:cntrl:]' ' ' < "$log.problem")
    # Slurm answers and refuses, does not know the job any more, or the time is up.
    if (( refusals == 3 || SECONDS + 15 > time_limit )) || [[ -z $problem || $problem == *"Invalid job id"* ]]; then
      break
    fi
    if (( waiting == 0 )); then
      echo "hatrain: exit code $code; cannot be requeued yet: $problem; asking again" >&2
      waiting=1
    fi
    sleep 5
  done
  echo "hatrain: exit code $code; not requeued: $problem" >&2
  record "\"event\": \"not requeued\", \"code\": $code, \"reason\": \"$problem\"" || true
}

# Runs one of Slurm's programs. What it prints to stderr goes to $log.problem.
ask() { # PROGRAM ARGUMENT…
  local status=0
  timeout 60 "$@" 2> "$log.problem" || status=$?
  if (( status )); then echo "($1: exit code $status)" >> "$log.problem"; fi
  return "$status"
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
  local attempt file since=$SECONDS
  until attempt=$(newest_attempt); (( attempt > before )); do
    if (( SECONDS - since >= stop_grace )); then end_start; return; fi
    sleep 1
  done
  file=$run/attempts/$attempt/.STOP.$BASHPID
  printf '{"reason": "%s", "requeue": true}\n' "$1" > "$file"
  # Keep an existing stop file: it may be the user's, after which the job must not be requeued.
  mv --no-clobber -- "$file" "$run/attempts/$attempt/STOP"
  rm -f -- "$file"
}

# Ends a start in which no attempt began by the time it has to leave. Three in a row are a fault: a container that takes
# longer to start than the time limit does so every time.
# shellcheck disable=SC2329 # called by ask_to_stop
end_start() {
  local late=("$run/launch/slurm-$job".*.late)
  echo "hatrain: no attempt began in the time that was left" >&2
  if (( ${#late[@]} < 3 )); then touch "$log.late"; fi
  kill -TERM "${step:?}"
  sleep 10
  kill -KILL "$step"
}
