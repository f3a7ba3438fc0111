"""Loads a language folder, checks it, and splits it into a training side and a test side."""
