"""Real runs that are killed, stopped, starved and damaged at random points, and compared to the bit with runs that
nothing disturbed. `python -m bench.chaos` prints the table of docs/reliability.md."""
