"""
Our figures and the peers', side by side in one run: `make bench`.

The rule: same machine, same work, same load client, in turns.  A figure that is
not in a record under `bench/results/` does not exist.
"""
