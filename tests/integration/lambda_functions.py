"""Functions made of source code, and a wait for what they do."""

import asyncio
import itertools
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local.lambda_runtime import LambdaFunction

Make = Callable[..., LambdaFunction]

_module_numbers = itertools.count()


def write_module(folder: Path, source: str) -> str:
    """A module name is used once: a thread finds an old one already imported."""
    name = f"function_{next(_module_numbers)}"
    (folder / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")
    return name


def maker(folder: Path, *, in_process: bool) -> Make:
    def make(source: str, **settings: Any) -> LambdaFunction:
        module = write_module(folder, source)
        return LambdaFunction(
            "sample",
            f"{module}.handler",
            env=settings.pop("env", {}),
            code_dir=folder,
            in_process=in_process,
            **settings,
        )

    return make


async def until(happened: Callable[[], bool]) -> None:
    """Wait for what another process does; it has no way to call us."""
    async with asyncio.timeout(10):
        while not happened():  # noqa: ASYNC110 - a file or a pid has no event
            await asyncio.sleep(0.01)


RETURNS = """
    def handler(event, context):
        return {"heard": event}
"""
