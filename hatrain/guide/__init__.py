"""Translates the training guide's commands into jobs. It only reads command lines."""

from hatrain.guide.flags import flags_help, is_guide_command, job_from_flags, whose_flags

__all__ = ["flags_help", "is_guide_command", "job_from_flags", "whose_flags"]
