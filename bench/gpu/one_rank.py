"""`python -m bench.gpu.one_rank RUN`: hatrain.train in a process group of one rank. Left to itself a single rank trains
without any, and no sharding strategy is used."""

import os
import sys
from unittest.mock import patch

from hatrain.train import __main__ as rank

if __name__ == "__main__":
    with patch.object(rank, "_unset_single_rank", lambda: None):
        sys.exit(rank.status(rank.main(sys.argv[1], os.environ["HATRAIN_ATTEMPT"]), others_wait=False))
