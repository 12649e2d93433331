import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from gateway.auth import (
    MAX_EXPIRY_S,
    SIGNATURE_TOLERANCE_S,
    ApiKeys,
    Signatures,
    Viewer,
    WatchTokens,
)
from gateway.errors import GatewayError, InvalidError, UnauthorizedError

OLD, NEW = b"o" * 24, b"n" * 32
ID, BODY, SENT_AT = "msg_1", b'{"type": "uploaded"}', 1_767_225_600
SECRETS = ("new-secret-of-thirty-two-characters", "old-secret-of-thirty-two-characters")


def signed(
    key: bytes = NEW, *, webhook_id: str = ID, at: int = SENT_AT, body: bytes = BODY
) -> dict[str, str]:
    """Headers as the published library signs them."""
    signature = Webhook(base64.b64encode(key).decode()).sign(
        webhook_id, datetime.fromtimestamp(at, UTC), body.decode()
    )
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(at),
        "webhook-signature": signature,
    }


def checker(*keys: bytes, now: float = SENT_AT) -> Signatures:
    return Signatures(keys or (NEW,), clock=lambda: now)


def with_signature(signature: str) -> dict[str, str]:
    return {**signed(), "webhook-signature": signature}


def test_what_the_published_library_signs_is_accepted():
    assert ID == checker().verify(signed(), BODY)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_any_printable_id_is_accepted(webhook_id):
    headers = signed(webhook_id=webhook_id[:200])

    assert webhook_id[:200] == checker().verify(headers, BODY)


@pytest.mark.parametrize("key", [OLD, NEW])
def test_during_a_rotation_both_secrets_are_accepted(key):
    assert ID == checker(NEW, OLD).verify(signed(key), BODY)


def test_after_a_rotation_the_old_secret_is_refused():
    with pytest.raises(UnauthorizedError, match="does not match"):
        checker(NEW).verify(signed(OLD), BODY)


@pytest.mark.parametrize("order", [(OLD, NEW), (NEW, OLD)])
def test_one_good_signature_of_several_is_enough(order):
    listed = " ".join(signed(key)["webhook-signature"] for key in order)

    assert ID == checker().verify(with_signature(f"v1a,abc {listed}"), BODY)


def test_the_good_one_must_not_hide_behind_a_flood_of_bad_ones():
    flood = "v1,bad " * 16 + signed()["webhook-signature"]

    with pytest.raises(UnauthorizedError):
        checker().verify(with_signature(flood), BODY)


@pytest.mark.parametrize("off_s", [-SIGNATURE_TOLERANCE_S, 0, SIGNATURE_TOLERANCE_S])
def test_a_clock_that_is_five_minutes_off_is_good_enough(off_s):
    assert ID == checker(now=SENT_AT + off_s).verify(signed(), BODY)


@pytest.mark.parametrize(
    "off_s", [-SIGNATURE_TOLERANCE_S - 0.1, SIGNATURE_TOLERANCE_S + 0.1, 86_400]
)
def test_anything_older_or_from_further_ahead_is_a_replay(off_s):
    with pytest.raises(UnauthorizedError, match="5 minutes"):
        checker(now=SENT_AT + off_s).verify(signed(), BODY)


@pytest.mark.parametrize("bit", range(8))
def test_no_bit_of_the_body_can_be_changed(bit):
    for at in range(len(BODY)):
        forged = bytearray(BODY)
        forged[at] ^= 1 << bit
        with pytest.raises(UnauthorizedError):
            checker().verify(signed(), bytes(forged))


@pytest.mark.parametrize(
    "header", ["webhook-id", "webhook-timestamp", "webhook-signature"]
)
def test_no_character_of_a_header_can_be_changed(header):
    good = signed()
    value = good[header]
    for at in range(len(value)):
        for other in map(chr, range(256)):
            forged = value[:at] + other + value[at + 1 :]
            if forged != value:
                with pytest.raises((UnauthorizedError, InvalidError)):
                    checker().verify({**good, header: forged}, BODY)


@pytest.mark.parametrize("end", [b"", b" ", b"\0", b"\n"])
def test_a_body_cannot_be_cut_or_padded(end):
    with pytest.raises(UnauthorizedError):
        checker().verify(signed(), BODY[:-1] + end)


@pytest.mark.parametrize("gone", sorted(signed()))
@pytest.mark.parametrize("value", [None, ""])
def test_every_header_is_required(gone, value):
    headers = {**signed(), gone: value}
    if value is None:
        del headers[gone]

    with pytest.raises(UnauthorizedError, match="are required"):
        checker().verify(headers, BODY)


@pytest.mark.parametrize("webhook_id", ["a b", "é", "a\n", "\0", "a" * 201, "\udc80"])
def test_an_id_that_could_not_be_kept_is_named(webhook_id):
    with pytest.raises(InvalidError) as raised:
        checker().verify({**signed(), "webhook-id": webhook_id}, BODY)

    assert "webhook-id" == raised.value.field


@pytest.mark.parametrize(
    "timestamp", ["x", "1e9", "-1", "1.5", "٣", " 1767225600", "9" * 13, "\udc80"]
)
def test_a_timestamp_that_is_not_unix_seconds_is_refused(timestamp):
    with pytest.raises(UnauthorizedError, match="Unix seconds"):
        checker().verify({**signed(), "webhook-timestamp": timestamp}, BODY)


def test_a_digest_is_no_signature():
    digest = base64.b64encode(hashlib.sha256(BODY).digest()).decode()

    for forged in (f"v1,{digest}", digest, "v1,", "v1", "v1,\udc80", "v1a,x"):
        with pytest.raises(UnauthorizedError):
            checker().verify(with_signature(forged), BODY)


@given(st.text(), st.text(), st.text(), st.binary())
def test_whatever_is_sent_unsigned_is_refused_in_our_words(one, two, three, body):
    headers = {
        "webhook-id": one,
        "webhook-timestamp": two,
        "webhook-signature": three,
    }

    with pytest.raises((UnauthorizedError, InvalidError)):
        checker().verify(headers, body)


def encode(claims: object, *, secret: str = SECRETS[0], header: object = None) -> str:
    """A token signed with HS256, whatever it claims."""
    parts = [header or {"alg": "HS256", "typ": "JWT"}, claims]
    content = b".".join(_b64(json.dumps(part).encode()) for part in parts)
    return (
        content + b"." + _b64(hmac.digest(secret.encode(), content, "sha256"))
    ).decode()


def _b64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


TOMORROW_S = time.time() + 86_400
"""Forgeries are made before the first test runs: none may expire meanwhile."""


def claims(**changes: object) -> dict[str, object]:
    said = {"aud": "reelready", "exp": TOMORROW_S, "files": ["f-1"]} | changes
    return {name: value for name, value in said.items() if value is not ...}


@pytest.fixture
def tokens() -> WatchTokens:
    return WatchTokens(SECRETS)


def test_a_minted_token_shows_its_file_until_it_expires(tokens):
    token, expires_at = tokens.mint("f-1", life_s=60)
    viewer = tokens.read(token)

    assert viewer == Viewer(files=frozenset({"f-1"}), expires_at=expires_at)
    assert 0 <= time.time() + 60 - expires_at <= 5
    assert viewer.may_see("f-1", "anybody")
    assert not viewer.may_see("f-2", None)


def test_a_token_of_any_jwt_library_with_an_older_secret_is_accepted(tokens):
    token = jwt.encode(claims(owner="u-17"), SECRETS[1], algorithm="HS256")

    viewer = tokens.read(token)

    assert (frozenset({"f-1"}), "u-17") == (viewer.files, viewer.owner)


def test_an_audience_may_be_a_list(tokens):
    assert tokens.read(encode(claims(aud=["other", "reelready"]))).may_see("f-1", None)


def _signed_raw(
    header: bytes,
    payload: bytes = b'{"aud":"reelready","exp":9999999999,"files":["f-1"]}',
) -> str:
    """Sign any bytes as header and payload with our secret."""
    content = _b64(header) + b"." + _b64(payload)
    signature = _b64(hmac.digest(SECRETS[0].encode(), content, "sha256"))
    return (content + b"." + signature).decode()


def _resigned(write: Callable[[bytes], bytes]) -> str:
    """A good token whose signature is written in another way."""
    content = encode(claims()).rpartition(".")[0]
    raw = hmac.digest(SECRETS[0].encode(), content.encode(), "sha256")
    return f"{content}.{write(raw).decode()}"


PRIVATE_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC_KEY = (
    PRIVATE_KEY.public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    .decode()
)

FORGERIES = {
    "empty": "",
    "dots": "..",
    "two parts": "a.b",
    "four parts": encode(claims()) + ".x",
    "no signature": encode(claims()).rpartition(".")[0] + ".",
    "another secret": encode(claims(), secret="a-guess-of-at-least-32-characters"),
    "no secret": encode(claims(), secret=""),
    "non-ASCII": "é" + encode(claims()),
    "surrogate": "\udc80" + encode(claims()),
    "NUL": encode(claims()) + "\0",
    "huge": "a" * 1_000_000,
    "huge header": _b64(b"[" * 100_000).decode() + ".e30.eA",
    "header is a list": encode(claims(), header=["HS256"]),
    "header is deep": encode(claims(), header={"alg": "HS256", "x": [[[[]]]] * 99})[
        :-2
    ],
    "crit": encode(claims(), header={"alg": "HS256", "crit": ["x"], "x": 1}),
    "detached": encode(
        claims(), header={"alg": "HS256", "b64": False, "crit": ["b64"]}
    ),
    "alg none": jwt.encode(claims(), None, algorithm="none"),
    "alg None, signed": encode(claims(), header={"alg": "None"}),
    "alg missing": encode(claims(), header={"typ": "JWT"}),
    "alg in lower case": encode(claims(), header={"alg": "hs256"}),
    "alg a list": encode(claims(), header={"alg": ["HS256"]}),
    "HS512": jwt.encode(claims(), SECRETS[0] * 2, algorithm="HS512"),
    "RS256 with our secret": encode(claims(), header={"alg": "RS256"}),
    "HS256 with a public key": encode(claims(), secret=PUBLIC_KEY),
    "embedded key": encode(
        claims(),
        secret="a" * 32,
        header={"alg": "HS256", "jwk": {"kty": "oct", "k": _b64(b"a" * 32).decode()}},
    ),
    "payload no object": encode(["files"]),
    "payload a text": encode("files"),
    "aud wrong": encode(claims(aud="other")),
    "aud missing": encode(claims(aud=...)),
    "aud null": encode(claims(aud=None)),
    "aud a prefix": encode(claims(aud="reel")),
    "aud an object": encode(claims(aud={"reelready": 1})),
    "exp missing": encode(claims(exp=...)),
    "exp null": encode(claims(exp=None)),
    "exp past": encode(claims(exp=time.time() - 1)),
    "exp true": encode(claims(exp=True)),
    "exp a text": encode(claims(exp="9999999999")),
    "exp infinite": encode(claims(exp=float("inf"))),
    "exp not a number": encode(claims(exp=float("nan"))),
    "exp in milliseconds": encode(claims(exp=time.time() * 1000)),
    "exp beyond floats": encode(claims(exp=10**400)),
    "exp beyond years": encode(claims(exp=MAX_EXPIRY_S + 1)),
    "exp a list": encode(claims(exp=[9999999999])),
    "nbf to come": encode(claims(nbf=TOMORROW_S - 3600)),
    "nbf far to come": encode(claims(nbf=time.time() + 10**6)),
    "nbf a text": encode(claims(nbf="0")),
    "nbf null": encode(claims(nbf=None)),
    "alg HS256 and none": encode(claims(), header={"alg": "HS256,none"}),
    "alg nOnE": encode(claims(), header={"alg": "nOnE"}),
    "alg with a NUL": encode(claims(), header={"alg": "HS256\0"}),
    "alg with a blank": encode(claims(), header={"alg": " HS256"}),
    "alg null": encode(claims(), header={"alg": None}),
    "alg empty": encode(claims(), header={"alg": ""}),
    "alg a number": encode(claims(), header={"alg": 256}),
    "alg twice": _signed_raw(b'{"alg":"HS256","alg":"none"}'),
    "ES256 with our secret": encode(claims(), header={"alg": "ES256"}),
    "PS256 with our secret": encode(claims(), header={"alg": "PS256"}),
    "EdDSA with our secret": encode(claims(), header={"alg": "EdDSA"}),
    "HS384": jwt.encode(claims(), SECRETS[0] * 2, algorithm="HS384"),
    "RS256 by its own key": jwt.encode(claims(), PRIVATE_KEY, algorithm="RS256"),
    "header no JSON": _signed_raw(b"alg=HS256"),
    "header empty": _signed_raw(b""),
    "header with a BOM": _signed_raw(b'\xef\xbb\xbf{"alg":"HS256"}'),
    "header in UTF-16": _signed_raw('{"alg":"HS256"}'.encode("utf-16")),
    "payload no JSON": _signed_raw(b'{"alg":"HS256"}', b"files=f-1"),
    "payload empty": _signed_raw(b'{"alg":"HS256"}', b""),
    "payload not UTF-8": _signed_raw(
        b'{"alg":"HS256"}',
        b'{"aud":"reelready","exp":9999999999,"files":["f-1"],"\xff":1}',
    ),
    "payload deep": _signed_raw(b'{"alg":"HS256"}', b'{"x":' * 3000),
    "signature in hex": _resigned(lambda raw: raw.hex().encode()),
    "signature padded": _resigned(base64.urlsafe_b64encode),
    "signature in standard base64": _resigned(
        lambda raw: base64.b64encode(raw).rstrip(b"=") + b"+"
    ),
    "signature cut": _resigned(lambda raw: _b64(raw[:16])),
    "signature of zeros": _resigned(lambda _: _b64(bytes(32))),
    "signature twice": _resigned(lambda raw: _b64(raw + raw)),
    "a blank in front": " " + encode(claims()),
    "a blank behind": encode(claims()) + " ",
    "a line break behind": encode(claims()) + "\n",
    "a scheme in front": "Bearer " + encode(claims()),
    "payload of another token": ".".join(
        (
            *encode(claims(files=["f-2"])).split(".")[:2],
            encode(claims()).split(".")[2],
        )
    ),
    "JWE": ".".join(
        [_b64(b'{"alg":"dir","enc":"A256GCM"}').decode(), "", "a", "b", "c"]
    ),
    "a key set to fetch": encode(
        claims(),
        secret="a" * 32,
        header={"alg": "HS256", "jku": "https://evil.example/keys"},
    ),
    "a certificate": encode(
        claims(),
        secret="a" * 32,
        header={"alg": "HS256", "x5u": "https://evil.example"},
    ),
    "a key by its name": encode(
        claims(), secret="", header={"alg": "HS256", "kid": "/dev/null"}
    ),
    "a key by SQL": encode(
        claims(), secret="a", header={"alg": "HS256", "kid": "' union select 'a"}
    ),
    "aud nested": encode(claims(aud=[["reelready"]])),
    "aud in capitals": encode(claims(aud="REELREADY")),
    "aud with a blank": encode(claims(aud="reelready ")),
    "exp zero": encode(claims(exp=0)),
    "exp negative": encode(claims(exp=-1)),
    "exp now": encode(claims(exp=time.time() - 0.001)),
}


def test_the_zoo_is_large_enough():
    """And each of them is a forgery of its own."""
    assert 80 <= len(FORGERIES) == len(set(FORGERIES.values()))


EXPIRED = {"exp past", "exp zero", "exp negative", "exp now"}


@pytest.mark.parametrize(("name", "forgery"), FORGERIES.items(), ids=FORGERIES)
def test_a_forged_token_is_refused(tokens, name, forgery):
    with pytest.raises(UnauthorizedError) as raised:
        tokens.read(forgery)

    assert "the watch token" in str(raised.value)
    assert ("has expired" in str(raised.value)) == (name in EXPIRED)
    assert SECRETS[0] not in str(raised.value)


def test_what_the_forgeries_are_made_of_is_good(tokens):
    """The zoo's own ways to write a token make good ones, too."""
    for good in (
        encode(claims()),
        _signed_raw(b'{"alg":"HS256"}'),
        _resigned(_b64),
        encode(claims(), header={"alg": "HS256", "kid": "1", "jku": "https://x"}),
    ):
        assert tokens.read(good).may_see("f-1", None)


def test_only_an_expired_token_is_told_why(tokens):
    with pytest.raises(UnauthorizedError, match="has expired"):
        tokens.read(FORGERIES["exp past"])
    with pytest.raises(UnauthorizedError, match="is not valid"):
        tokens.read(encode(claims(exp=time.time() - 1), secret="x" * 32))


def test_no_character_of_a_token_can_be_changed(tokens):
    good = encode(claims())
    for at in range(len(good) - 1):
        for other in "A.é\0":
            if other != good[at]:
                with pytest.raises(UnauthorizedError):
                    tokens.read(good[:at] + other + good[at + 1 :])


@given(st.text())
def test_no_text_whatever_is_a_token(text):
    with pytest.raises(UnauthorizedError):
        WatchTokens(SECRETS).read(text)


@pytest.mark.parametrize(
    "files", [..., None, "f-1", {"f-1": 1}, 7, True, [], [None, 1, ["f-1"]]]
)
@pytest.mark.parametrize("owner", [..., None, "", 0, True, ["u-17"], {}])
def test_a_token_that_names_nothing_shows_nothing(tokens, files, owner):
    viewer = tokens.read(encode(claims(files=files, owner=owner)))

    for file_owner in (None, "", "u-17", "0", "True"):
        assert not viewer.may_see("f-1", file_owner)


def test_a_list_of_files_is_read_for_what_it_holds(tokens):
    viewer = tokens.read(encode(claims(files=["f-1", None, 2, "f-3"])))

    assert frozenset({"f-1", "f-3"}) == viewer.files


@pytest.mark.parametrize(
    ("viewer", "seen"),
    [
        (Viewer(), []),
        (Viewer(everything=True), [("f-1", None), ("f-2", "u-1"), ("f-3", "u-2")]),
        (Viewer(files=frozenset({"f-1"})), [("f-1", None)]),
        (Viewer(owner="u-1"), [("f-2", "u-1")]),
        (
            Viewer(files=frozenset({"f-3"}), owner="u-1"),
            [("f-2", "u-1"), ("f-3", "u-2")],
        ),
        (Viewer(files=frozenset({"f"}), owner="u"), []),
    ],
)
def test_who_may_see_which_file(viewer, seen):
    files = [("f-1", None), ("f-2", "u-1"), ("f-3", "u-2")]

    assert seen == [one for one in files if viewer.may_see(*one)]


@pytest.mark.parametrize("key", ["one", "two", "키"])
def test_every_api_key_opens(key):
    assert ApiKeys(("one", "two", "키")).accept(key)


@pytest.mark.parametrize("key", ["", "on", "one ", "ONE", "one,two", "\udcff", "é\0"])
def test_nothing_else_opens(key):
    assert not ApiKeys(("one", "two")).accept(key)


@given(st.binary())
def test_any_bytes_of_a_header_are_just_a_wrong_key(raw):
    presented = raw.decode("utf-8", "surrogateescape")

    assert not ApiKeys(("k" * 32,)).accept(presented)


def test_refusals_are_our_own_errors():
    assert issubclass(UnauthorizedError, GatewayError)
    assert "unauthorized" == UnauthorizedError.code
