"""
Who gets in: every route, every kind of credential (A1, A6, H7, H8).

Answers are compared as the bytes that come out of the socket, but for the date.
"""

import asyncio
import itertools
import re
import time
from typing import Any

import jwt
import pytest

from tests.integration.conftest import TOKEN_SECRET
from tests.integration.wire import request, served

ABSENT = "0199a3c4-5b6d-7e8f-9a0b-1c2d3e4f5a6b"
SSE = {"Accept": "text/event-stream"}
READS = {
    "state": ("/v1/files/{id}", {}),
    "state, waiting": ("/v1/files/{id}?wait=1", {"If-None-Match": '"1"'}),
    "long-poll": ("/v1/files/{id}/events?wait=0", {}),
    "stream": ("/v1/files/{id}/events", SSE),
    "stream, resumed": ("/v1/files/{id}/events", SSE | {"Last-Event-ID": "1"}),
    "board": ("/v1/events?file={id}", SSE),
    "board of two": ("/v1/events?file={own}&file={id}", SSE),
}
_DATE = re.compile(rb"\r\nDate: [^\r]*")


def token(secret: str = TOKEN_SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    said = {"aud": "reelready", "exp": int(time.time()) + 60} | claims
    return jwt.encode(said, secret, algorithm=algorithm)


@pytest.fixture
def place(gateway_with):
    with served(gateway_with, asyncio.new_event_loop) as one:
        yield one


def ask(place, method: str, target: str, headers: dict[str, str]) -> bytes:
    """Read one whole answer, to the end of its connection."""
    with place.wire() as wire:
        wire.send(request(method, target, headers | {"Connection": "close"}))
        return _DATE.sub(b"", wire.rest_or_reset())


def ways(credential: str) -> list[tuple[str, dict[str, str]]]:
    """Show a credential in each place where one is looked for."""
    nothing = {"Authorization": ""}
    return [
        ("", {"Authorization": f"Bearer {credential}"}),
        (f"token={credential}", nothing),
        ("", nothing | {"Cookie": f"reelready={credential}"}),
    ]


def refused_for_good(files: list[str], owner: str) -> dict[str, str]:
    """Credentials that are not accepted at all: 401 wherever they are shown."""
    named: dict[str, Any] = {"files": files, "owner": owner}
    return {
        "expired": token(exp=int(time.time()) - 1, **named),
        "wrong audience": token(aud="other", **named),
        "no audience": jwt.encode(
            {"exp": int(time.time()) + 60} | named, TOKEN_SECRET, algorithm="HS256"
        ),
        "HS512": token(TOKEN_SECRET * 2, "HS512", **named),
        "HS384 with our secret": token(TOKEN_SECRET * 2, "HS384", **named),
        "alg none": jwt.encode({"aud": "reelready"} | named, None, algorithm="none"),
        "another secret": token("x" * 40, **named),
        "not yet": token(nbf=int(time.time()) + 600, **named),
        "a wrong key": "l" * 40,
        "the key, cut": "k" * 39,
    }


def test_a_credential_that_is_not_accepted_tells_nothing_of_any_file(place):
    """
    None, expired, wrong audience, wrong algorithm: the same 401 for a file that
    is there and for one that is not, whichever way the credential is shown.
    """
    there = place.new_file(owner="u-1")
    bad = refused_for_good([there, ABSENT], "u-1")
    shown = [("", {"Authorization": ""})] + [
        way for credential in bad.values() for way in ways(credential)
    ]
    for (target, headers), (query, credential) in itertools.product(
        READS.values(), shown
    ):
        between = ("&" if "?" in target else "?") * bool(query)
        asked = f"{target}{between}{query}"
        one, other = (
            ask(
                place,
                "GET",
                asked.replace("{id}", file_id).replace("{own}", there),
                headers | credential,
            )
            for file_id in (there, ABSENT)
        )

        assert one.startswith(b"HTTP/1.1 401 "), (asked, credential)
        assert one == other
        assert not any(secret.encode() in one for secret in bad.values())


@pytest.mark.parametrize("route", READS)
def test_not_yours_and_absent_are_the_same_bytes(place, route):
    """
    A good token for another file, for another owner, for nothing at all.
    """
    own = place.new_file(owner="u-2")
    there = place.new_file(owner="u-1")
    unowned = place.new_file()
    target, headers = READS[route]
    for claims in (
        {"files": [own]},
        {"owner": "u-2"},
        {"owner": "u-2", "files": [own]},
        {"owner": "U-1", "files": [own]},
        {"owner": "u-1 ", "files": [own]},
        {"files": [own, there + "0", there[:-1], "*", "", None]},
        {"files": there},
        {},
    ):
        for query, credential in ways(token(**claims)):
            between = ("&" if "?" in target else "?") * bool(query)
            answers = {
                ask(
                    place,
                    "GET",
                    f"{target}{between}{query}".replace("{id}", file_id).replace(
                        "{own}", own
                    ),
                    headers | credential,
                )
                for file_id in (there, unowned, ABSENT, "x")
            }

            assert 1 == len(answers), claims
            assert answers.pop().startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("route", READS)
def test_what_is_yours_is_shown(place, route):
    """The same requests are answered when they may be: the tests above can fail."""
    own = place.new_file(owner="u-2")
    there = place.new_file(owner="u-1")
    for file_id in (own, there):
        place.run(place.gateway.complete(file_id))
    target, headers = READS[route]
    target = target.replace("{id}", there).replace("{own}", own)
    for query, credential in ways(token(files=[own, there])):
        between = ("&" if "?" in target else "?") * bool(query)
        shown = ask(place, "GET", f"{target}{between}{query}", headers | credential)

        assert shown.startswith(b"HTTP/1.1 200 ")
        assert there.encode() in shown


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/v1/files"),
        ("GET", "/v1/files/{id}/history"),
        ("POST", "/v1/files/{id}/reports"),
        ("POST", "/v1/files/{id}/manifest"),
    ],
)
def test_no_token_opens_what_is_the_back_ends_or_a_lambdas(place, method, target):
    """
    Also not one for that very file; nor does the API key sign a report.
    """
    there = place.new_file(owner="u-1")
    shown = [
        token(files=[there, ABSENT]),
        token(owner="u-1"),
        *refused_for_good([there], "u-1").values(),
    ]
    if "history" not in target and target != "/v1/files":
        shown.append("k" * 40)
    for credential in shown:
        for query, headers in ways(credential):
            between = "?" * bool(query)
            answers = {
                ask(
                    place,
                    method,
                    f"{target.replace('{id}', file_id)}{between}{query}",
                    headers,
                )
                for file_id in (there, ABSENT)
            }

            assert 1 == len(answers)
            assert answers.pop().startswith(b"HTTP/1.1 401 ")
    assert 1 == place.events(there)


def reads(place) -> int:
    found = re.search(r"feed_read_seconds_count ([\d.]+)", place.metrics())
    assert found
    return int(float(found[1]))


@pytest.mark.parametrize("credential", [None, "token"])
def test_guessed_file_ids_cost_no_read_and_leave_nothing(place, credential):
    """
    H7: without a credential, and with a token for another file.
    """
    own = place.new_file()
    place.report(own)
    key = f"Bearer {token(files=[own])}" if credential else ""
    before = reads(place)
    with place.wire() as wire:
        for n in range(500):
            guess = f"{ABSENT[:-4]}{n:04x}"
            for target, headers in READS.values():
                asked = target.replace("{id}", guess).replace("{own}", own)
                wire.send(request("GET", asked, headers | {"Authorization": key}))
                assert (404 if credential else 401) == wire.answer().status

    assert before == reads(place)
    place.until(place.is_base)


def test_the_guesses_of_an_api_key_share_a_read_and_leave_nothing(place):
    """The team's own back end may ask about any id, so its guesses are looked up."""
    before = reads(place)
    wires = [place.wire() for _ in range(50)]
    for n, wire in enumerate(wires):
        wire.send(request("GET", f"/v1/files/{ABSENT[:-4]}{n:04x}") * 4)
    statuses = {wire.answer().status for wire in wires for _ in range(4)}
    for wire in wires:
        wire.sock.close()

    assert {404} == statuses
    assert 0 < reads(place) - before <= 200
    place.until(place.is_base)


HOSTILE_CURSORS = [
    "-1",
    "+1",
    "1.0",
    "1e3",
    "0x1",
    "1_0",
    " 1",
    "9" * 9,
    "9" * 10,
    "9" * 5000,
    "٣",
    "²",
    "½",
    "NaN",
    "null",
    "undefined",
    "[object Object]",
    "1;drop table events",
    "1' or '1'='1",
    "%31",
    "1\t",
    "\xff\xfe",
    'W/"1"',
    "{}",
    "../../1",
]


@pytest.mark.parametrize("where", ["last-event-id", "lastEventId", "after"])
def test_any_cursor_whatever_has_a_defined_start(place, where):
    """
    H8: a reset and the current state, or the current state; never an error.
    """
    file_id = place.new_file()
    place.run(place.gateway.complete(file_id))
    for hostile in HOSTILE_CURSORS:
        headers, query = dict(SSE), ""
        if where == "last-event-id":
            headers["Last-Event-ID"] = hostile.encode().decode("latin-1")
        else:
            octets = hostile.encode("utf-8", "surrogateescape")
            query = f"?{where}=" + "".join(f"%{octet:02x}" for octet in octets)
        shown = ask(place, "GET", f"/v1/files/{file_id}/events{query}", headers)

        assert shown.startswith(b"HTTP/1.1 200 "), hostile
        assert b"id: 2\n" in shown, hostile
        assert shown.endswith(b'event: bye\ndata: {"reason": "final"}\n\n')
        trimmed = hostile.strip() if where == "last-event-id" else hostile
        assert (trimmed != "1") == (b"event: reset\n" in shown), hostile
