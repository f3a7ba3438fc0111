"""hatrain fine-tunes small language models for Home Assistant, from one YAML to a model that was judged."""

import os

__version__ = "0.1.0"
"""The one place that has it: the package's metadata, the image's label and records read it from here."""

# Read by OpenMP when torch is imported. Threads that spin while they wait for each other starve on a busy machine:
# two threads of one process took 70 times as long beside other work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
