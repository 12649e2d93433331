"""`python -m local`: the same as `reelready local`."""

import sys

from local.supervisor import main

if __name__ == "__main__":
    sys.exit(main())
