"""What passive waiting of OpenMP's threads (`hatrain/__init__.py`) costs on a quiet machine: `python bench/waiting.py`.

Seconds of a training step of a small Llama with all cores, with each policy in turns. On a machine that is not quiet,
the other work decides what is measured.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

POLICIES = ("PASSIVE", "ACTIVE")
TURNS, STEPS = 5, 10


def train() -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=16_384, hidden_size=256, intermediate_size=688, num_hidden_layers=6)
    )
    ids = torch.randint(0, 16_384, (2, 630))
    model(input_ids=ids, labels=ids).loss.backward()
    started = time.perf_counter()
    for _ in range(STEPS):
        model(input_ids=ids, labels=ids).loss.backward()
    print((time.perf_counter() - started) / STEPS)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    found: dict[str, list[float]] = {policy: [] for policy in POLICIES}
    for _ in range(TURNS):
        for policy in POLICIES:
            environment = {**os.environ, "OMP_WAIT_POLICY": policy}
            ran = subprocess.run([sys.executable, __file__, "train"], env=environment, capture_output=True, check=True)
            found[policy].append(float(ran.stdout))
    for policy, seconds in found.items():
        print(f"{policy}: {statistics.median(seconds):.3f} s a step ({min(seconds):.3f} to {max(seconds):.3f})")


if __name__ == "__main__":
    train() if sys.argv[1:] == ["train"] else main()
