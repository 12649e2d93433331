"""
No secret is compared in a time that tells how much of it was right (A7).

Read from the code itself: a test that measured times would flake.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SECRETIVE = re.compile(
    r"secret|signature|digest|token|credential|presented|password|hmac|api_?key"
    r"|(^|_)keys?$|_signed|offered|expected"
)
COMPARES = (ast.Eq, ast.NotEq, ast.In, ast.NotIn)

HARMLESS = {
    ("gateway/auth.py", "len(token)"),
    ("gateway/config.py", "secret != LOCAL_API_KEY"),
    ("gateway/config.py", "LOCAL_API_KEY in secrets"),
    ("gateway/config.py", "LOCAL_API_KEY in self.api_keys"),
    (
        "gateway/config.py",
        "_webhook_secrets(LOCAL_INGEST_SECRET)[0] in self.ingest_secrets",
    ),
    ("gateway/store/append.py", "known_digest == digest"),
    ("gateway/protocol/manifest.py", "'..' in unquote(key).split('/')"),
    ("gateway/protocol/http.py", "key in head.headers"),
    ("gateway/protocol/http.py", "key in self.headers"),
    ("gateway/protocol/http.py", "key == 'cookie'"),
    ("gateway/web/access.py", "'.' not in presented"),
}
"""
Settings are compared with each other at the start, and with what everybody
knows; a body's digest is compared with that of the same, signed, webhook-id;
the other keys are names of fields; whether a credential has a full stop tells a
token from a key, of what its sender knows.
"""


def sources() -> list[Path]:
    folders = ("gateway", "workers", "lambdas")
    return sorted(one for name in folders for one in (ROOT / name).rglob("*.py"))


def names_in(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            yield inner.id
        elif isinstance(inner, ast.Attribute):
            yield inner.attr


def compares(code: str) -> list[str]:
    """Find `==`, `!=` and `in` where a name says that it is a secret."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Compare)
        and any(isinstance(one, COMPARES) for one in node.ops)
        and any(
            SECRETIVE.search(name.lower())
            for side in (node.left, *node.comparators)
            for name in names_in(side)
        )
    ]


def test_only_harmless_compares_are_made_of_what_may_be_a_secret():
    found = {
        (str(path.relative_to(ROOT)), compare)
        for path in sources()
        for compare in compares(path.read_text("utf-8"))
    }

    assert found <= HARMLESS, sorted(found - HARMLESS)


@pytest.mark.parametrize(
    "code",
    [
        "presented == key",
        "if token != self._token: pass",
        "presented in self._keys",
        "signature not in expected",
        "any(key == said for key in keys)",
        "hmac.digest(key, body, 'sha256') == offered",
        "request.headers['x'] == config.api_keys[0]",
    ],
)
def test_a_compare_of_a_secret_would_be_found(code):
    assert compares(code)


@pytest.mark.parametrize(
    ("module", "times"),
    [("gateway/auth.py", 2), ("gateway/protocol/jws.py", 1)],
)
def test_secrets_are_compared_in_constant_time(module, times):
    """Every one of several, whichever matches: no `any()` over a generator."""
    tree = ast.parse((ROOT / module).read_text("utf-8"))
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ListComp) and "hmac.compare_digest" in ast.unparse(node)
    ]
    all_calls = ast.unparse(tree).count("hmac.compare_digest(")

    assert times == len(calls) == all_calls
