"""`hatrain tiny`: writes a small base model of random weights and a tokenizer trained on a dataset."""

import argparse
import sys
from pathlib import Path

from hatrain.runtime.waiting import waiting


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, type=Path, help="dataset to train the tokenizer on")
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    parser.add_argument("--vocabulary", type=int, default=2048, help="tokens (default: 2048)")
    parser.add_argument("--hidden", type=int, default=192, help="hidden size (default: 192)")
    parser.add_argument("--layers", type=int, default=4, help="layers (default: 4)")
    parser.add_argument("--heads", type=int, default=4, help="attention heads (default: 4)")
    parser.add_argument("--ctx-size", type=int, default=2048, help="context size in tokens (default: 2048)")
    parser.add_argument("--seed", type=int, default=42, help="seed of the weights (default: 42)")


def run(args: argparse.Namespace) -> int:
    from hatrain.model.quiet import quiet

    with waiting("loading torch and transformers"):
        quiet()
        from hatrain.model.tiny import make

    options = {name: value for name, value in vars(args).items() if name not in ("data", "out")}
    parameters = make(args.data, args.out, **options)
    print(f"{args.out}: {parameters / 1e6:.1f}M parameters", file=sys.stderr)
    return 0
