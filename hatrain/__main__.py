"""`python -m hatrain` is `hatrain`."""

import sys

from hatrain.cli import main

sys.exit(main())
