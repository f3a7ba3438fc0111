"""Judges answers: by what their calls do to a simulated home, and by what their words say about it."""
