"""
`python -m bench.soak.fuzz_child TARGET SECONDS FOLDER`: fuzz one target, alone.

Guided by coverage where atheris is installed and `--guided` is said, else by
chance.  What was found lies in the folder, as the bytes that brought it about;
the last line on standard output says how many were tried.

This imports nothing of ours until atheris can instrument it.
"""

import argparse
import io
import itertools
import json
import logging
import time
import traceback
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

_CHECK_EVERY = 64


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.soak.fuzz_child")
    parser.add_argument("target")
    parser.add_argument("seconds", type=float)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--guided", action="store_true")
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


def _by_chance(options: argparse.Namespace) -> None:
    from bench.soak.mutating import mutated  # noqa: PLC0415 - see above
    from bench.soak.targets import TARGETS  # noqa: PLC0415 - see above

    target, seeds = TARGETS[options.target]
    tried = found = 0
    until_s = time.monotonic() + options.seconds
    with redirect_stdout(_Nowhere()):
        for tried, raw in enumerate(mutated(seeds, options.seed), 1):
            try:
                target(raw)
            except Exception:  # noqa: BLE001 - each is a find
                found += 1
                (options.folder / f"found-{found}").write_bytes(raw)
                traceback.print_exc()
            if tried % _CHECK_EVERY == 0 and time.monotonic() > until_s:
                break
    print(json.dumps({"tried": tried}))


def _guided(options: argparse.Namespace) -> None:
    atheris: Any = import_module("atheris")
    with atheris.instrument_imports(include=["gateway", "lambdas"]):
        from bench.soak.targets import TARGETS  # noqa: PLC0415 - see above

    target, seeds = TARGETS[options.target]
    corpus = options.folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    tried = itertools.count(1)
    count = options.folder / "tried"

    def one(raw: bytes) -> None:
        number = next(tried)
        if number % _CHECK_EVERY == 0:
            count.write_text(str(number), encoding="ascii")
        target(raw)

    limits = {
        "max_total_time": int(options.seconds),
        "max_len": 4096,
        "timeout": 20,
        "rss_limit_mb": 2048,
        "seed": options.seed,
        "artifact_prefix": f"{options.folder}/found-",
    }
    arguments = [f"-{name}={value}" for name, value in limits.items()]
    with redirect_stdout(_Nowhere()):
        atheris.Setup(["fuzz", *arguments, str(corpus)], one)
        atheris.Fuzz()


class _Nowhere(io.TextIOBase):
    """Where the log lines of the Lambdas go."""

    def write(self, text: str) -> int:
        return len(text)


def main() -> None:
    """Fuzz; libFuzzer ends this process by itself at its first find."""
    options = _options()
    logging.disable(logging.CRITICAL)
    (_guided if options.guided else _by_chance)(options)


if __name__ == "__main__":
    main()
