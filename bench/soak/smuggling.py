"""
Requests with another one hidden behind them, in every way we know of: bytes, no I/O.

What two servers in a row may read differently is where a request ends: its length,
its chunks, its lines.  `corpus` has each known shape once, `smuggling` mixes and
mutates them without end.

Source: RFC 9112, sections 6.3 and 11.2.
"""

import random
from collections.abc import Iterator

from bench.soak.mutating import mutated

CHUNKS = "0\r\n\r\n"
ENDS = {
    "length before chunks": "Content-Length: {behind}\r\n"
    "Transfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "chunks before length": "Transfer-Encoding: chunked\r\n"
    "Content-Length: 4\r\n\r\n" + CHUNKS,
    "two lengths": "Content-Length: 0\r\nContent-Length: {smuggled}\r\n\r\n",
    "a list of lengths": "Content-Length: 0, {smuggled}\r\n\r\n",
    "a signed length": "Content-Length: +0\r\n\r\n",
    "a length behind a tab": "Content-Length:\t0\r\n\r\n",
    "a length and a letter": "Content-Length: 0x0\r\n\r\n",
    "a blank before the colon": "Content-Length : {smuggled}\r\n\r\n",
    "a folded length": "Content-Length:\r\n {smuggled}\r\n\r\n",
    "no length": "\r\n",
    "a length of nothing": "Content-Length: 0\r\n\r\n",
    "a length of all": "Content-Length: {smuggled}\r\n\r\n",
    "xchunked": "Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS,
    "identity": "Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n",
    "chunked, identity": "Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKS,
    "chunked twice": "Transfer-Encoding: chunked, chunked\r\n\r\n" + CHUNKS,
    "two codings": "Transfer-Encoding: chunked\r\n"
    "Transfer-Encoding: identity\r\n\r\n" + CHUNKS,
    "chunked in capitals": "Transfer-Encoding: CHUNKED\r\n\r\n" + CHUNKS,
    "chunked in quotes": 'Transfer-Encoding: "chunked"\r\n\r\n' + CHUNKS,
    "chunked behind a tab": "Transfer-Encoding:\tchunked\r\n\r\n" + CHUNKS,
    "chunked behind a control": "Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKS,
    "a blank before chunked's colon": "Transfer-Encoding : chunked\r\n\r\n" + CHUNKS,
    "folded chunked": "Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNKS,
    "chunked behind LF": "X: y\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "chunked behind CR": "X: y\rTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "underscores": "Transfer_Encoding: chunked\r\nContent_Length: 4\r\n\r\n" + CHUNKS,
    "an extension": "Transfer-Encoding: chunked\r\n\r\n0;a=b\r\n\r\n",
    "an extension with LF": "Transfer-Encoding: chunked\r\n\r\n0;a\n\r\n\r\n",
    "chunks with LF": "Transfer-Encoding: chunked\r\n\r\n0\n\n",
    "a large size": "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n",
    "a size of many zeros": "Transfer-Encoding: chunked\r\n\r\n"
    + "0" * 40
    + "\r\n\r\n",
    "a signed size": "Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n",
    "a negative size": "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    "a hex size": "Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
    "a blank size": "Transfer-Encoding: chunked\r\n\r\n\r\n\r\n",
    "a blank behind the size": "Transfer-Encoding: chunked\r\n\r\n0 \r\n\r\n",
    "a chunk longer than said": "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    "a length in the trailer": "Transfer-Encoding: chunked\r\n\r\n"
    "0\r\nContent-Length: 9\r\n\r\n",
    "chunked in the trailer": "Transfer-Encoding: chunked\r\n\r\n"
    "0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "an upgrade": "Connection: Upgrade\r\nUpgrade: h2c\r\n"
    "HTTP2-Settings: AAMAAABkAAQ\r\n\r\n",
    "a websocket": "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "continue": "Expect: 100-continue\r\nContent-Length: {smuggled}\r\n\r\n",
    "connection names the length": "Connection: Content-Length\r\n"
    "Content-Length: {smuggled}\r\n\r\n",
    "two hosts": "Host: i\r\nContent-Length: 0\r\n\r\n",
    "a NUL": "X: a\0b\r\nContent-Length: 0\r\n\r\n",
}
"""Framing, to the end of the head and beyond, by what is odd in it."""

OUTER = [
    ("GET", "/v1/files/{id}"),
    ("POST", "/v1/files/{id}/manifest"),
    ("POST", "/v1/files"),
    ("GET", "/healthz"),
    ("OPTIONS", "/v1/files/{id}"),
]

_HEAD = "{method} {path} HTTP/1.1\r\nHost: h\r\n{key}\r\n"
_MIXED = 500
"""Shapes that one run of `smuggling` mutates, besides those of `corpus`."""

_METHODS = (
    *("GET", "HEAD", "POST", "POST", "OPTIONS") * 16,
    *("DELETE", "CONNECT", "TRACE", "get", "G\0T", "GET\t"),
)
_PATHS = (
    *("/v1/files/{id}",) * 48,
    *("/v1/files/{id}/manifest",) * 24,
    *("/v1/files", "/healthz", "*", "h:80", "", "//v1/files/{id}"),
    *("http://h/v1/files/{id}", "HTTP://i:80/v1/files/{id}", "http://[/", "http:/h"),
    *("/v1/files/{id}/../{id}", "/v1/./files/{id}", "/v1%2ffiles/{id}"),
    *("/v1/files/{id}#/reports", "/v1/files/{id}%0d%0aX:%20y", "/v1/files/{id}?\x0b"),
    *("/v1/files/{id}%00", "/v1/files/{id} HTTP/1.1\r\nX: y", "/v1\\files\\{id}"),
)
_VERSIONS = (
    *("HTTP/1.1",) * 120,
    *("HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "HTTP/01.1", "HTTP/1.1 "),
    *("http/1.1", "HTTP/1,1", "HTTP/1.1\0", ""),
)
_LENGTH_NAMES = (
    *("Content-Length",) * 90,
    *("content-length", "Content_Length", "Content-Length\0", "\x0bContent-Length"),
)
_LENGTHS = (
    *("0", "{smuggled}", "{behind}", "5", "1") * 12,
    *("+0", "-1", "0x0", "00", "0{behind}", "0, {behind}", "{behind}, {behind}"),
    *("{behind} ", "{behind}\t", "\0{behind}", "9" * 20, "18446744073709551616", ""),
)
_CODING_NAMES = (
    *("Transfer-Encoding",) * 90,
    *("transfer-encoding", "Transfer_Encoding", "Transfer-Encoding\0", "TE"),
)
_CODINGS = (
    *("chunked",) * 90,
    *("Chunked", "chunked ", "xchunked", "chunkedx", "chunk", '"chunked"', ",chunked"),
    *("chunked,", "identity", "gzip, chunked", "chunked, gzip", "chunked;a=b"),
    *("chun\0ked", "\x0bchunked", "chunked\x7f", "ch\xfcnked", ""),
)
_COLONS = (*(": ",) * 150, ":", " : ", "\t:", ":\t", ":\r\n ", ":\r\n\t", ":\n ", ":\0")
_LINE_ENDS = (*("\r\n",) * 250, "\n", "\r", "\r\r\n", "\0\r\n", "\r\n ")
_OTHERS = (
    *("Expect: 100-continue", "Expect: 200-ok", "Connection: close"),
    *("Connection: keep-alive, Content-Length", "Connection: Transfer-Encoding"),
    *("Connection: Upgrade\r\nUpgrade: h2c", "Upgrade: websocket", "Host: i"),
    *("X: a\0b", "X\x01: y", "X y: z", ": nothing", "X", "X: \xff", "Trailer: Host"),
    *(" Content-Length: {behind}", "X: y\rContent-Length: {behind}"),
)
_BODIES = (
    *("", CHUNKS, CHUNKS) * 16,
    *("1\r\na\r\n0\r\n\r\n", "1\r\nab\r\n0\r\n\r\n", "2\r\na\r\n0\r\n\r\n"),
    *("{smuggled_hex}\r\n", "f" * 16 + "\r\n", "1" + "0" * 16 + "\r\n\r\n"),
    *("0" * 40 + "\r\n\r\n", "+0\r\n\r\n", "-1\r\n\r\n", "0x0\r\n\r\n", "0 \r\n\r\n"),
    *("0;a=b\r\n\r\n", "0;a\n\r\n\r\n", '0;a="\r\n"\r\n\r\n', "0\n\n"),
    *("0\r\r", "\r\n\r\n"),
    *("0\r\nX: y\r\n\r\n", "0\r\nContent-Length: 9\r\n\r\n", "0\r\nX\n\n", "0\r\n"),
    *("1\r\na0\r\n\r\n", "1\na\n0\n\n", "1;\0\r\na\r\n0\r\n\r\n", "g\r\n\r\n"),
)

_LENGTH, _CODING = (_LENGTH_NAMES, _LENGTHS), (_CODING_NAMES, _CODINGS)
_FRAMINGS = (
    *(((1, *_LENGTH),), ((1, *_CODING),)) * 8,
    *((), ((1, *_LENGTH), (1, *_CODING)), ((2, *_LENGTH),), ((2, *_CODING),)),
)
"""How many lengths and codings one request has."""


def corpus(file_id: str, key: str, smuggled: bytes) -> Iterator[tuple[str, bytes]]:
    """Write every outer request with every way to end it, and one hidden behind."""
    for method, path in OUTER:
        for what, end in ENDS.items():
            head = _filled(_HEAD + end, file_id, key, smuggled, method, path)
            yield f"{method} {path}: {what}", head + smuggled


def smuggling(
    file_id: str, key: str, hidden: tuple[bytes, ...], seed: int
) -> Iterator[bytes]:
    """
    Make such bytes without end: mixed ones and mutated ones in turn.

    Args:
        file_id: Of the file that the outer requests name.
        key: That they show.
        hidden: What stands behind them, one or another.
    """
    chance = random.Random(seed)

    def mixed() -> bytes:
        return _mixed(chance, file_id, key, chance.choice(hidden))

    seeds = [raw for one in hidden for _, raw in corpus(file_id, key, one)]
    seeds += [mixed() for _ in range(_MIXED)]
    for raw in mutated(seeds, seed):
        yield raw
        yield mixed()


def _mixed(chance: random.Random, file_id: str, key: str, hidden: bytes) -> bytes:
    """Put one together of odd parts, most of which are not odd."""
    fields = ["Host: h", "{key}"]
    for many, names, values in chance.choice(_FRAMINGS):
        fields += [_field(chance, names, values) for _ in range(many)]
    fields += chance.sample(_OTHERS, chance.choice((0, 0, 0, 0, 1)))
    chance.shuffle(fields)
    lines = ["{method} {path} " + chance.choice(_VERSIONS), *fields]
    written = "".join(line + chance.choice(_LINE_ENDS) for line in lines)
    raw = _filled(
        written + "\r\n" + chance.choice(_BODIES),
        *(file_id, key, hidden),
        *(chance.choice(_METHODS), chance.choice(_PATHS)),
    )
    return raw + hidden * chance.choice((1, 1, 1, 1, 2, 0))


def _field(
    chance: random.Random, names: tuple[str, ...], values: tuple[str, ...]
) -> str:
    return chance.choice(names) + chance.choice(_COLONS) + chance.choice(values)


def _filled(
    head: str, file_id: str, key: str, hidden: bytes, method: str, path: str
) -> bytes:
    """Write in it what it speaks of."""
    for name, value in {
        "method": method,
        "path": path.replace("{id}", file_id),
        "key": f"Authorization: Bearer {key}",
        "behind": len(CHUNKS) + len(hidden),
        "smuggled": len(hidden),
        "smuggled_hex": f"{len(hidden):x}",
    }.items():
        head = head.replace(f"{{{name}}}", str(value))
    return head.encode("latin-1")
