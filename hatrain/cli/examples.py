"""The examples at the end of each verb's help. A test gives every command to the real parser."""

EXAMPLES: dict[str, list[tuple[str, str]]] = {
    "init": [("hatrain init my-home", "write jobs/my-home.yaml and homes/my-home.yaml, and say what comes next")],
    "jobs": [
        ("hatrain jobs", "list all jobs"),
        ("hatrain jobs qwen3-0.6b > jobs/mine.yaml", "start a job of your own from one that comes with hatrain"),
    ],
    "plan": [
        ("hatrain plan qwen3-0.6b", "steps, memory part by part, checkpoints, time"),
        ("hatrain plan qwen3-0.6b --gpu rtx3060-12gb,rtx4090-24gb", "compare GPUs: what fits, and hours"),
        ("hatrain plan qwen3-0.6b --cluster slurm-venv --set hardware.gpus_per_node=4", "on a cluster, with a change"),
        ("hatrain plan --matrix", "what each sharding strategy works with"),
    ],
    "render": [
        ("hatrain render qwen3-0.6b --cluster slurm-venv > job.sbatch", "one batch script, to read and to sbatch"),
        (
            "hatrain render qwen3-0.6b --cluster kubernetes | kubectl apply --server-side -f -",
            "one manifest, for kubectl",
        ),
    ],
    "submit": [
        ("hatrain submit my-home --follow", "train on this machine, and watch"),
        ("hatrain submit my-home --cluster my-slurm", "with the cluster file ~/.config/hatrain/clusters/my-slurm.yaml"),
        ("hatrain submit my-home --set method.epochs=2 --fresh", "again, with a change, as a new run"),
        ("hatrain submit my-home --sweep method.learning_rate=1e-5,2e-5", "a run for each value"),
    ],
    "diff": [("hatrain diff my-home --cluster my-slurm", "what would change if the job was submitted now")],
    "runs": [("hatrain runs", "all runs of this folder")],
    "status": [("hatrain status my-home", "its state, step and attempt")],
    "logs": [("hatrain logs my-home --follow", "the output, to the end of the run")],
    "wait": [("hatrain wait my-home && hatrain export my-home", "go on when the run has finished")],
    "stop": [("hatrain stop my-home", "save a checkpoint and end; submitting the job again resumes")],
    "pull": [
        ("hatrain pull my-home", "model, metrics, logs and reports, from a cluster behind ssh"),
        ("hatrain pull my-home --model", "the model alone; while it trains, the newest whole checkpoint"),
        ("hatrain pull my-home --metrics", "everything else"),
    ],
    "cancel": [("hatrain cancel my-home", "take it from the queue, or end it now")],
    "compare": [("hatrain compare my-home my-home-2", "settings and results that differ")],
    "report": [
        ("hatrain report my-home", "write runs/my-home/report.html"),
        ("hatrain report my-home my-home-2 --out both.html", "two runs on one page"),
    ],
    "memory": [("hatrain memory report", "one line for each run that measured its GPUs")],
    "clusters": [("hatrain clusters", "the cluster files, and where your own belong")],
    "train": [
        ("hatrain train my-home", "in this process, without a launcher"),
        (
            "hatrain train --run_name my-home --base_model TinyLlama/TinyLlama-1.1B-Chat-v1.0 "
            "--train_dataset data/home_assistant_train.jsonl",
            "with the training guide's flags; --help-flags lists them",
        ),
    ],
    "import": [
        (
            "hatrain import -- python3 train.py --run_name my-home --base_model microsoft/phi-2 "
            "--train_dataset data/home_assistant_train.jsonl > jobs/my-home.yaml",
            "a command of the training guide becomes a job",
        )
    ],
    "fetch": [("hatrain fetch qwen3-0.6b", "before a job goes to a machine without a network")],
    "check": [
        (
            "hatrain check data/home_assistant_train.jsonl --model Qwen/Qwen3-0.6B --show 3",
            "find unusable rows, and see what is trained in three",
        )
    ],
    "data": [
        ("hatrain data --train --test", "English, for Home Assistant's own Assist, into data/"),
        ("hatrain data --train --test --large --language english german", "more of it, in two languages"),
        (
            "hatrain data --train --test --home homes/my-home.yaml --requests-per-home 8 --out data/my-home",
            "for one home",
        ),
        ("hatrain data --sample --client home-llm", "100 rows to look at"),
    ],
    "evaluate": [
        ("hatrain evaluate my-home --dataset data/my-home/home_assistant_test.jsonl", "a run's model"),
        (
            "hatrain evaluate model.gguf --dataset data/my-home/home_assistant_test.jsonl --limit 200 --out evaluation",
            "any model, on 200 rows",
        ),
    ],
    "export": [("hatrain export my-home --gguf q8_0,q4_k_m", "two GGUF files, compared and judged, and a Modelfile")],
    "publish": [
        ("hatrain publish my-home --repo ada/my-home --dry-run", "what would be uploaded"),
        ("hatrain publish my-home --repo ada/my-home --private", "upload it"),
    ],
    "ask": [
        ('hatrain ask my-home "turn on the kitchen light"', "one request"),
        ("hatrain ask my-home --home homes/my-home.yaml", "many, in your home"),
    ],
    "find-split": [("hatrain find-split TinyLlama/TinyLlama-1.1B-Chat-v1.0", "token ids around a reply")],
    "doctor": [
        ("hatrain doctor", "Python, packages, GPUs, disks, network"),
        ("hatrain doctor my-home", "what this run needs"),
        ("hatrain doctor --cluster slurm-ssh", "what a cluster behind ssh lacks"),
    ],
    "tiny": [("hatrain tiny --data data/home_assistant_train.jsonl --out models/tiny", "a base to try things with")],
    "schema": [
        ("hatrain schema > jobs/schema.json", "for editors, of a job"),
        ("hatrain schema --cluster > clusters.json", "of a cluster file"),
    ],
    "help": [("hatrain help submit", "options and examples of submit")],
    "completion": [
        (
            "hatrain completion bash > ~/.local/share/bash-completion/completions/hatrain",
            "bash with the package bash-completion; otherwise source the file in ~/.bashrc",
        ),
        ("hatrain completion zsh > ~/.zfunc/_hatrain", "zsh; ~/.zfunc must be in $fpath before compinit runs"),
        ("hatrain completion fish > ~/.config/fish/completions/hatrain.fish", "fish"),
    ],
}
