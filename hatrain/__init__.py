"""hatrain fine-tunes small language models for Home Assistant, from one YAML to a model that was judged."""
