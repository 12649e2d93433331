"""What is logged, and what docs/logs.md explains, is the same."""

import ast
import re

from tests.unit.deploy.prometheus import ROOT

ROW = re.compile(r"^\| (\w+) \|(?: [^|]* \|)? (`[^|]+`) \| .+ \|$", re.MULTILINE)
LOGS = {"_log", "_access_log", "log"}
DOORS = ("reports", "manifest")
LEVELS = {"info", "warning", "error", "exception", "critical"}


def explained():
    """Level and line of each row; several lines share one."""
    return {
        (level.lower(), line)
        for level, lines in ROW.findall((ROOT / "docs/logs.md").read_text("utf-8"))
        for line in re.findall(r"`([^`]+)`", lines)
    }


def calls(*folders):
    """Every call, and the texts that its module has a name for."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            module = ast.parse(path.read_text("utf-8"))
            texts = {
                one.targets[0].id: one.value.value
                for one in module.body
                if isinstance(one, ast.Assign)
                and isinstance(one.targets[0], ast.Name)
                and isinstance(one.value, ast.Constant)
            }
            for node in ast.walk(module):
                if isinstance(node, ast.Call):
                    yield node.func, node.args, texts


def logged():
    """Level and line of each call of the gateway and the workers."""
    for function, arguments, texts in calls("gateway", "workers"):
        match function:
            case ast.Attribute(ast.Name(name), level) if (
                name in LOGS and level in LEVELS
            ):
                match arguments[0]:
                    case ast.Constant(line) | ast.Name(line):
                        line = texts.get(line, line).replace("`", "")
                        yield level.replace("exception", "error"), line


def said_by_lambdas():
    for function, arguments, _ in calls("lambdas"):
        match function, arguments:
            case ast.Name("log"), [ast.Constant(level), ast.Constant(event)]:
                yield level, event
            case ast.Name("log"), [ast.Constant(level), ast.JoinedStr()]:
                yield from ((level, f"{door}.posted") for door in DOORS)


def test_every_line_is_explained_and_none_that_is_gone():
    lines = {*logged(), *said_by_lambdas()}

    assert 40 < len(lines)
    assert lines == explained(), "see docs/logs.md"
