"""AWS's own examples of bodies in signed chunks, whole and byte by byte."""

import pytest

from local.s3 import sigv4
from local.s3.chunked import ChunkDecoder, ChunkSigner
from local.s3.errors import S3Error

# Amazon S3 API Reference: 65 KiB of "a", with and without trailing checksum.
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
CREDENTIAL = sigv4.Credential(
    "AKIAIOSFODNN7EXAMPLE", "20130524", "us-east-1", "s3", "aws4_request"
)
PAYLOAD = b"a" * 66560


def signer(seed: str) -> ChunkSigner:
    return ChunkSigner(
        sigv4.Signature(
            access_key=CREDENTIAL.access_key,
            payload="STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            scope=CREDENTIAL.scope,
            timestamp="20130524T000000Z",
            value=seed,
            key=sigv4.signing_key(SECRET, CREDENTIAL),
        )
    )


def body(signatures: list[str], trailers: bytes = b"") -> bytes:
    first, second, last = (one.encode() for one in signatures)
    return (
        b"10000;chunk-signature=" + first + b"\r\n" + PAYLOAD[:65536] + b"\r\n"
        b"400;chunk-signature=" + second + b"\r\n" + PAYLOAD[65536:] + b"\r\n"
        b"0;chunk-signature=" + last + b"\r\n" + trailers + b"\r\n"
    )


SIGNED = (
    "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    body(
        [
            "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
            "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
            "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
        ]
    ),
)
TRAILED = (
    "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
    body(
        [
            "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
            "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
            "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
        ],
        b"x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:"
        b"d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n",
    ),
)
UNSIGNED = b"3\r\nabc\r\n2\r\nde\r\n0\r\nx-amz-checksum-crc32:AAAA\r\n\r\n"


def decode(decoder: ChunkDecoder, coded: bytes, size: int) -> bytes:
    pieces = (coded[at : at + size] for at in range(0, len(coded), size))
    payload = b"".join(out for piece in pieces for out in decoder.feed(piece))
    decoder.finish()
    return payload


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_the_documented_body_is_believed(size):
    seed, coded = SIGNED
    decoder = ChunkDecoder(signer=signer(seed), has_trailers=False)

    assert PAYLOAD == decode(decoder, coded, size)


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_the_documented_body_with_a_trailer_is_believed(size):
    seed, coded = TRAILED
    decoder = ChunkDecoder(signer=signer(seed), has_trailers=True)

    assert PAYLOAD == decode(decoder, coded, size)
    assert {"x-amz-checksum-crc32c": "sOO8/Q=="} == decoder.trailers


@pytest.mark.parametrize("size", [1, 2, 100])
def test_chunks_without_signatures_are_taken_apart(size):
    decoder = ChunkDecoder(signer=None, has_trailers=True)

    assert b"abcde" == decode(decoder, UNSIGNED, size)
    assert {"x-amz-checksum-crc32": "AAAA"} == decoder.trailers


@pytest.mark.parametrize("cut", range(len(UNSIGNED)))
def test_a_body_that_ends_early_is_incomplete(cut):
    decoder = ChunkDecoder(signer=None, has_trailers=True)

    with pytest.raises(S3Error) as refusal:
        decode(decoder, UNSIGNED[:cut], 100)

    assert "IncompleteBody" == refusal.value.code


@pytest.mark.parametrize("old", [b"aaaaa\r\n400", b"ad80c7", b"0055", b"b6c6"])
def test_a_changed_chunk_is_not_believed(old):
    seed, coded = SIGNED
    changed = coded.replace(
        old, old.replace(old[:1], b"b" if old[:1] != b"b" else b"c")
    )
    assert changed != coded

    with pytest.raises(S3Error) as refusal:
        decode(ChunkDecoder(signer=signer(seed), has_trailers=False), changed, 1000)

    assert "SignatureDoesNotMatch" == refusal.value.code


@pytest.mark.parametrize(
    "coded",
    [
        b"x\r\n",
        b"-1\r\n",
        b"3;other=1\r\nabc\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\na:1\r\na:2\r\n\r\n",
        b"0\r\n\r\nmore",
        b"1" * 5000,
        b"3;chunk-signature=" + b"0" * 64 + b"\r\nabc\r\n",
    ],
)
def test_broken_coding_is_refused(coded):
    with pytest.raises(S3Error) as refusal:
        decode(ChunkDecoder(signer=None, has_trailers=True), coded, 100)

    assert "InvalidRequest" == refusal.value.code


def test_a_trailer_that_was_not_announced_is_refused():
    with pytest.raises(S3Error):
        decode(ChunkDecoder(signer=None, has_trailers=False), UNSIGNED, 100)
