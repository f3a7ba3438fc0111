"""A real pretrained model, SmolLM2-135M, from its package to a judged GGUF file: `make bench-model`."""
