#!/usr/bin/env python3
"""A stand-in for kubectl: answers from $KUBECTL_STUB/answers.json, and records each call. An answer matches a call that
has all of its arguments; it is given `times` times, or always."""

import json
import os
import sys
import time
from pathlib import Path

stub = Path(os.environ["KUBECTL_STUB"])
arguments = sys.argv[1:]
stdin = sys.stdin.read() if "-" in arguments else ""
with (stub / "calls.jsonl").open("a", encoding="utf-8") as calls:
    calls.write(json.dumps({"arguments": arguments, "stdin": stdin}) + "\n")

answers = json.loads((stub / "answers.json").read_text(encoding="utf-8"))
for number, answer in enumerate(answers):
    used = stub / f"used-{number}"
    times = len(used.read_bytes()) if used.exists() else 0
    if set(answer["arguments"]) <= set(arguments) and times < answer.get("times", times + 1):
        with used.open("ab") as mark:
            mark.write(b".")
        sys.stderr.write(answer.get("stderr", ""))
        for piece in answer.get("pieces", [answer.get("stdout", "")]):
            sys.stdout.write(piece)
            sys.stdout.flush()
            time.sleep(answer.get("sleep", 0))
        sys.exit(answer.get("code", 0))
sys.exit(f"the stub has no answer to: {' '.join(arguments)}")
