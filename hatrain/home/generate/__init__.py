"""Generates the Home Assistant dataset: conversations, rows, files."""
