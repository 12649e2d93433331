"""Tokens that PyJWT reads and writes, too, and no others."""

import base64
import binascii
import hashlib
import hmac
import json

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.jws import MAX_TOKEN_CHARS, sign, verify

KEY, OTHER = b"a key of at least thirty-two bytes", b"another one of thirty-two bytes!"
CLAIMS = {"aud": "reelready", "says": "???~~~>>>"}
"""Its base64 has both characters that base64url writes in its own way."""


def signed(header: bytes, payload: bytes, key: bytes = KEY) -> str:
    """A token of parts that are encoded already."""
    content = header + b"." + payload
    signature = hmac.digest(key, content, hashlib.sha256)
    return (content + b"." + base64url(signature)).decode()


def base64url(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def header(**said: object) -> bytes:
    return base64url(json.dumps(said).encode())


OURS = header(alg="HS256", typ="JWT")
PAYLOAD = base64url(json.dumps(CLAIMS).encode())


@given(st.dictionaries(st.text(), st.text() | st.integers(0, 2**53) | st.booleans()))
def test_what_we_sign_pyjwt_reads(claims):
    said = jwt.api_jws.PyJWS().decode(sign(claims, KEY), KEY, algorithms=["HS256"])

    assert claims == json.loads(said)


@pytest.mark.parametrize("keys", [(KEY,), (OTHER, KEY), (KEY, OTHER)])
def test_what_pyjwt_signs_we_read(keys):
    assert b"-" in PAYLOAD
    assert b"_" in PAYLOAD

    assert CLAIMS == json.loads(verify(jwt.encode(CLAIMS, KEY), keys))
    assert CLAIMS == json.loads(verify(signed(OURS, PAYLOAD), keys))


def test_a_header_may_be_written_another_way():
    other = header(kid="1", alg="HS256")

    assert CLAIMS == json.loads(verify(signed(other, PAYLOAD), [KEY]))


@pytest.mark.parametrize(
    "said",
    [
        *[{"alg": name} for name in ("none", "None", "hs256", "HS512", "RS256", "")],
        {"alg": "HS256", "crit": ["b64"], "b64": False},
        {"alg": "HS256", "crit": []},
    ],
)
def test_a_header_that_says_more_or_less_is_refused_whoever_signed_it(said):
    with pytest.raises(ValueError, match=r"^not an algorithm of ours$"):
        verify(signed(header(**said), PAYLOAD), [KEY])


@pytest.mark.parametrize("keys", [(), (OTHER,)])
def test_another_key_is_no_key(keys):
    with pytest.raises(ValueError, match=r"^not signed by us$"):
        verify(signed(OURS, PAYLOAD), keys)


@pytest.mark.parametrize("token", ["", "a", "a.b", f"{OURS.decode()}.e30"])
def test_a_token_has_three_parts(token):
    with pytest.raises(ValueError, match=r"^not three parts$"):
        verify(token, [KEY])


def test_a_token_may_be_as_long_as_is_said():
    room = MAX_TOKEN_CHARS - len(signed(OURS, b""))
    longest = signed(OURS, b"0" * room)

    assert MAX_TOKEN_CHARS == len(longest)
    assert verify(longest, [KEY])
    with pytest.raises(ValueError, match=r"^not three parts$"):
        verify(signed(OURS, b"0" * (room + 4)), [KEY])


@pytest.mark.parametrize("standard", [b"e+30", b"e/30", b"+/+/"])
def test_the_other_base64_is_refused_whoever_signed_it(standard):
    with pytest.raises(ValueError, match=r"^not base64url$"):
        verify(signed(OURS, standard), [KEY])


@pytest.mark.parametrize("loose", [b"e30!", b"e3\n0", b" e30", b"e", b"e30=e30"])
def test_what_is_beside_base64_is_not_passed_over_whoever_signed_it(loose):
    with pytest.raises(binascii.Error):
        verify(signed(OURS, loose), [KEY])
