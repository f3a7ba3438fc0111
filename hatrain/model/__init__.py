"""The model room: base models, tokenizers, and what is added to them."""
