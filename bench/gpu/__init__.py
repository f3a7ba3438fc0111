"""Measures hatrain on one GPU in a few minutes, offline. `bench/gpu.sh` starts it; docs/gpu.md describes it."""
