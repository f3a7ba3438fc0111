"""From a trained model to GGUF files for llama.cpp and Ollama. Every file is compared with the model before the export
counts as done."""
