"""`python -m local`: the same as `reelready local`."""

import os
import signal
import sys

if __name__ == "__main__":
    # The imports take a while and leave nothing behind: Ctrl-C just ends them,
    # with the exit code of whatever was told to stop.
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    from local.supervisor import main

    sys.exit(main())
