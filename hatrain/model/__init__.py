"""Base models and tokenizers, with the additions of a job."""
