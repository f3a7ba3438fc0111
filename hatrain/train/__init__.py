"""The training room: one process a rank, from a run directory to a sealed model."""
