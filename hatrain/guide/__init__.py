"""The training guide's own commands, turned into jobs. It reads command lines and never trains, plans or downloads."""

from hatrain.guide.flags import flags_help, is_guide_command, job_from_flags

__all__ = ["flags_help", "is_guide_command", "job_from_flags"]
