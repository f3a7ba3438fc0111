"""`python -m hatrain.entry`."""

import sys

from hatrain.entry import main
from hatrain.runtime.stop import ignore_signals

code = main(sys.argv[1:])
# While Python shuts down, its handlers are gone, and a signal would replace the exit code of the attempt.
ignore_signals()
sys.exit(code)
