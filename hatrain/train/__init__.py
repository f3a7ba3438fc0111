"""Training: one process per rank, from a run directory to a sealed model."""
