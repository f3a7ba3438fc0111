#!/usr/bin/env bash
# One attempt of home-1b on this machine: pipe it to bash. The exit code is the run's own.
set -euo pipefail

main() {
  # The files stay small and are kept: the run copies them into its directory.
  folder=$(mktemp -d "${TMPDIR:-/tmp}/hatrain.XXXXXX")
  mkdir "$folder/launch"
  unpack
  exec bash "$folder/launch/node.sh" "$folder/plan.json" < /dev/null
}

# --- files of the run; `unpack` writes them to $folder ---

unpack() {
cat > "$folder/plan.json" <<'END'
{
  "version": 3,
  "job": {
    "name": "home-1b",
    "seed": 42,
    "model": {
      "base": "some/base",
      "revision": null,
      "trust_remote_code": false,
      "dtype": "bf16",
      "quantization": null,
      "add_pad_token": false,
      "add_chatml_tokens": false,
      "chat_template": null,
      "chat_template_kwargs": {}
    },
    "data": {
      "train": [
        {
          "path": "data/a.jsonl",
          "weight": 1.0
        },
        {
          "path": "data/b.jsonl",
          "weight": 2.0
        }
      ],
      "test": "data/test.jsonl",
      "order": "shuffled",
      "prefix_ids": null,
      "suffix_ids": null,
      "on_overlong": "drop"
    },
    "method": {
      "learning_rate": 0.00001,
      "learning_rate_warmup": 0.0,
      "learning_rate_schedule": "cosine",
      "optimizer": "adamw",
      "weight_decay": 0.1,
      "gradient_clip": 1.0,
      "skip_steps": 0,
      "epochs": 1.0,
      "max_steps": null,
      "batch_size": 8,
      "micro_batch_size": 2,
      "ctx_size": 2048,
      "gradient_checkpointing": true,
      "packing": "tree",
      "lora": {
        "rank": 32,
        "alpha": 32.0,
        "dropout": 0.05,
        "modules": [
          "mlp",
          "attention"
        ],
        "modules_to_save": null,
        "merge": false
      },
      "kind": "sft"
    },
    "hardware": {
      "nodes": 1,
      "gpus_per_node": 2,
      "gpu": "a6000-48gb",
      "sharding": "fsdp",
      "offload": "none",
      "compile": false
    },
    "checkpoints": {
      "save_steps": null,
      "save_total_limit": 1,
      "state": "full",
      "sync_to": null
    },
    "evaluation": {
      "eval_steps": 200,
      "sample": 256,
      "requests": 200,
      "keep": "last",
      "metric": "loss",
      "stop_after": null
    },
    "export": null,
    "logging": {
      "logging_steps": 5,
      "trackers": [
        "tensorboard"
      ]
    },
    "limits": {
      "time": "24:00:00",
      "retries": 3,
      "hang": "auto"
    },
    "after": null
  },
  "identity": "bf47f05e0d4ff9463a7f999c5888ed5910fa8128d817db2cb5d307e04b75805a",
  "cluster": "workstation",
  "cluster_spec": {
    "environment": {
      "HF_HOME": "/scratch/my cache"
    },
    "nccl": {},
    "price_per_gpu_hour": {},
    "mean_time_between_failures": null,
    "network": true,
    "kind": "local",
    "python": "/opt/hatrain/bin/python",
    "secrets": {}
  },
  "resources": null,
  "python": "/opt/hatrain/bin/python",
  "environment": {
    "HF_HOME": "/scratch/my cache"
  },
  "nodes": 1,
  "processes_per_node": 2,
  "device": "cuda",
  "sharding": "fsdp",
  "gradient_checkpointing": true,
  "batch": {
    "rows_per_step": 8,
    "micro_batch_size": 2,
    "accumulation": 2,
    "ranks": 2
  },
  "steps": null,
  "overlong": null,
  "memory": null,
  "memory_unknown": "the memory that some/base needs is not known: some/base: it is not in memory/models.json and not in the model cache; hatrain fetch JOB downloads it",
  "seconds": null,
  "paths": {
    "workdir": "/home/ada/training",
    "run": "/home/ada/training/runs/home-1b",
    "models": "/home/ada/training/models",
    "code": null
  },
  "retries": 3
}
END

cat > "$folder/job.yaml" <<'END'
# home-1b as resolved, with every default.
name: home-1b
seed: 42
model:
  base: some/base
  revision: null
  trust_remote_code: false
  dtype: bf16
  quantization: null
  add_pad_token: false
  add_chatml_tokens: false
  chat_template: null
  chat_template_kwargs: {}
data:
  train:
  - path: data/a.jsonl
    weight: 1.0
  - path: data/b.jsonl
    weight: 2.0
  test: data/test.jsonl
  order: shuffled
  prefix_ids: null
  suffix_ids: null
  on_overlong: drop
method:
  learning_rate: 1.0e-05
  learning_rate_warmup: 0.0
  learning_rate_schedule: cosine
  optimizer: adamw
  weight_decay: 0.1
  gradient_clip: 1.0
  skip_steps: 0
  epochs: 1.0
  max_steps: null
  batch_size: 8
  micro_batch_size: 2
  ctx_size: 2048
  gradient_checkpointing: true
  packing: tree
  lora:
    rank: 32
    alpha: 32.0
    dropout: 0.05
    modules:
    - mlp
    - attention
    modules_to_save: null
    merge: false
  kind: sft
hardware:
  nodes: 1
  gpus_per_node: 2
  gpu: a6000-48gb
  sharding: fsdp
  offload: none
  compile: false
checkpoints:
  save_steps: null
  save_total_limit: 1
  state: full
  sync_to: null
evaluation:
  eval_steps: 200
  sample: 256
  requests: 200
  keep: last
  metric: loss
  stop_after: null
export: null
logging:
  logging_steps: 5
  trackers:
  - tensorboard
limits:
  time: '24:00:00'
  retries: 3
  hang: auto
after: null
END

cat > "$folder/launch/env.sh" <<'END'
# shellcheck shell=bash
# The environment of home-1b on the cluster "workstation".
export HATRAIN_NODES=1
export HF_HOME='/scratch/my cache'
export HATRAIN_PYTHON=/opt/hatrain/bin/python
END

cat > "$folder/launch/node.sh" <<'END'
#!/usr/bin/env bash
# Starts hatrain on one node of a run: sets the node's rank and the rendezvous address, then replaces itself with
# hatrain.entry. The same script is used under every scheduler.
#
# usage: node.sh RUN_DIRECTORY | PLAN_JSON
set -euo pipefail

scripts=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=/dev/null
source "$scripts/env.sh"

# A run on one node has rank 0 even inside a larger allocation, and chooses its own port.
HATRAIN_NODE_RANK=0
if (( HATRAIN_NODES > 1 )); then
  HATRAIN_NODE_RANK=${SLURM_NODEID:-${JOB_COMPLETION_INDEX:-0}}
  if [[ -z ${MASTER_ADDR:-} || -z ${MASTER_PORT:-} ]]; then
    echo "hatrain: MASTER_ADDR and MASTER_PORT are not set; set them to the first node and a free port on it" >&2
    exit 78 # a retry would fail in the same way
  fi
  export MASTER_ADDR MASTER_PORT
fi
export HATRAIN_NODE_RANK

# exec, so that signals reach hatrain.entry directly.
exec "$HATRAIN_PYTHON" -m hatrain.entry "$1"
END

cat > "$folder/launch/accelerate.yaml" <<'END'
# Sharding of home-1b.
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
mixed_precision: bf16
num_machines: 1
num_processes: 2
use_cpu: false
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_reshard_after_forward: true
  fsdp_state_dict_type: FULL_STATE_DICT
  fsdp_cpu_ram_efficient_loading: true
  fsdp_activation_checkpointing: false
END
}

main
