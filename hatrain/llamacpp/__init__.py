"""llama.cpp as a shared library: quantises GGUF files, tokenises with them and answers with them."""
