"""Hostile inputs for everything that reads a file or a model's text: `make fuzz [MINUTES=60]`. A finding becomes a
test."""
