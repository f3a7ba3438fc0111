# shellcheck shell=bash disable=SC2154 # assigned above this text, as is `unpack`
# Writes the files of a submission and sends it to Slurm, once: whoever makes the folder of its token does, and everybody
# else finds its result. Run twice, or by two connections at once, it still submits one job. It exits with 1 where Slurm has
# no job for sure, and with another code where that is not known. The lines above set:
#   token      of the submission
#   folder     the run directory; for a sweep the folder that holds its runs
#   workdir    working folder on the cluster
#   runs       run directory of each run
#   identities identity of each run, by which another job of the same name is known
#   aside      what is appended to the name of an earlier run that is set aside; empty where it is continued
#   records    a line for the record of each run, with @JOB@ for the job's id
#   code       where the copy of hatrain goes that lies beside the folder of the token; empty without one
#   command    sbatch with its options
#   purpose    submit, or settle: find out whether a submission that was cut off has arrived, and end it if it has not

sent=$workdir/.hatrain/sent/$token

main() {
  local output status=0
  # The connection may end at any time, and this has to reach its end nevertheless.
  trap '' HUP PIPE
  mkdir --parents -- "$workdir/.hatrain/sent" || return 1
  # The file that keeps the token is on the machine that submits.
  if grep --quiet --no-messages --fixed-strings -- "$token" "$folder/launch/submission.json"; then
    echo "the cluster sees the files of this machine in $folder; use a cluster file without ssh, or another ssh.workdir" >&2
    return 1
  fi
  if ! mkdir -- "$sent" 2> /dev/null && find_result; then return; fi
  echo "$HOSTNAME $BASHPID" > "$sent/owner"
  if [[ $purpose == settle ]]; then
    touch -- "$sent/void"
    echo void
    return
  fi
  if [[ -e $sent/void ]]; then
    echo "this submission was given up; submit it again" >&2
    return 1
  fi
  find "$workdir/.hatrain/sent" -mindepth 1 -maxdepth 1 -mtime +30 -exec rm -rf -- {} + 2> /dev/null || true
  if ! { refuse_another && set_aside && write; }; then
    rm -rf -- "$sent"
    return 1
  fi
  output=$(timeout 60 "${command[@]}") || status=$?
  # After a time-out Slurm may have the job. The folder stays, and the next look decides.
  if (( status == 124 )); then
    echo "no answer in 60 s" >&2
    return "$status"
  fi
  if (( status )); then
    rm -rf -- "$sent"
    return 1
  fi
  keep_result "$output"
}

# Waits for the result of whoever made the folder, while that one may still be at work. False if it ended before Slurm
# had the job.
find_result() {
  local host process output since=$SECONDS
  while true; do
    if [[ -s $sent/job ]]; then
      keep_result "$(< "$sent/job")"
      return
    fi
    host='' process=''
    read -r host process < "$sent/owner" 2> /dev/null || true
    # It waits for sbatch for one minute.
    if (( SECONDS - since > 90 )) || { [[ $host == "$HOSTNAME" ]] && ! kill -0 "$process" 2> /dev/null; }; then
      output=$(in_queue) || exit 124
      if [[ -z $output ]]; then return 1; fi
      keep_result "$output"
      return
    fi
    sleep 1
  done
}

# Prints the id of the job with this token; nothing where Slurm has none.
in_queue() {
  local jobs job line
  jobs=$(timeout 60 squeue --me --noheader --states=all --format='%F|%o') || return 1
  while IFS='|' read -r job line; do
    if [[ $line == *"$token"* ]]; then
      echo "$job"
      return
    fi
  done <<< "$jobs"
}

keep_result() { # OUTPUT of sbatch
  local number line
  echo "$1" > "$sent/.job"
  mv -- "$sent/.job" "$sent/job"
  for number in "${!runs[@]}"; do
    line=${records[$number]//@JOB@/${1%%;*}}
    if ! grep --quiet --no-messages --fixed-strings -- "$token" "${runs[$number]}/record.jsonl"; then
      echo "$line" >> "${runs[$number]}/record.jsonl"
    fi
  done
  echo "$1"
}

# Another machine may have sent a job of the same name.
refuse_another() {
  local number identity
  if [[ -n $aside ]]; then return; fi
  for number in "${!runs[@]}"; do
    if [[ -e ${runs[$number]}/plan.json ]]; then
      identity=$(sed --quiet 's/^  "identity": "\(.*\)",$/\1/p' -- "${runs[$number]}/plan.json")
      if [[ $identity != "${identities[$number]}" ]]; then
        echo "${runs[$number]}: holds another job of this name; --fresh sets it aside" >&2
        return 1
      fi
    fi
  done
}

set_aside() {
  local run
  if [[ -z $aside ]]; then return; fi
  for run in "${runs[@]}"; do
    if [[ -e $run && ! -e $run$aside ]]; then mv -- "$run" "$run$aside" || return 1; fi
  done
}

write() {
  local run
  mkdir --parents -- "$folder/launch" || return 1
  for run in "${runs[@]}"; do mkdir --parents -- "$run/launch" || return 1; done
  if [[ -n $code && -d $sent.code ]]; then
    rm -rf -- "$code"
    mv -- "$sent.code" "$code" || return 1
  fi
  unpack
}
