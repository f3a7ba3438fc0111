"""Run by the Python of .venv-transformers4: prints the logits and token ids that transformers 4.57 computes."""

import json
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer


def compute(folder: str, text: str) -> dict:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval()
    ids = tokenizer(text)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    return {
        "version": transformers.__version__,
        "ids": ids,
        "chat": chat,
        "specials": [tokenizer.all_special_ids, tokenizer.eos_token_id, tokenizer.pad_token_id],
        "logits": logits.tolist(),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps([compute(folder, sys.argv[1]) for folder in sys.argv[2:]]))
