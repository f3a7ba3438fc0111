"""Decides what a job needs, renders it for a scheduler, and submits it. Never imports torch."""
