"""`python -m hatrain.entry RUN_DIRECTORY|PLAN_JSON`, as node.sh becomes it."""

import sys

from hatrain.entry import main

sys.exit(main(sys.argv[1:]))
