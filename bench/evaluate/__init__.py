"""Requests per second of an evaluation, beside those of an earlier revision. `make bench-evaluate` runs it."""
