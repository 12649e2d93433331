"""`python -m gateway`: the same as `reelready`."""

from gateway.cli import main

if __name__ == "__main__":
    main(prog_name="reelready")
