"""
Every signed upload that is given out carries every condition (A9).

That S3 keeps them is shown by `tests/integration/test_s3_signatures.py` and
`tests/integration/test_s3_forms.py`.
"""

import base64
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest
from botocore.exceptions import ClientError

from gateway.errors import ConfigError, UnavailableError
from gateway.model import FileId
from gateway.protocol.registration import Registration
from gateway.uploads import Uploads

FILE = FileId("0199a3c4-5b6d-7e8f-9a0b-1c2d3e4f5a6b")
LIFE_S = 900
NAMES = [
    "a.mp4",
    "휴가.mov",
    "../../etc/passwd.mp4",
    "a b+c%2F.MOV",
    "x" * 250 + ".mkv",
    "no extension",
    "a.mp4/../b",
    "<script>.webm",
    "key=other&x=y.mp4",
    '"], ["starts-with", "$key", ""]].mp4',
]
TYPES = ["video/mp4", "video/quicktime", "audio/ogg", "application/octet-stream"]
SIZES = [1, 1024, 5 * 1024**3]


def registrations(upload: str) -> list[Registration]:
    return [
        Registration(name=name, content_type=kind, size=size, upload=upload)
        for name in NAMES
        for kind in TYPES
        for size in SIZES
    ]


@pytest.fixture
async def uploads():
    async with Uploads("films", "video/origin/", life_s=LIFE_S) as one:
        yield one


async def test_every_form_is_for_one_key_one_size_one_type_one_tag_and_not_for_long(
    uploads,
):
    now = datetime.now(UTC)
    for said in registrations("post"):
        upload = await uploads.sign(FILE, said, now)
        policy = json.loads(base64.b64decode(upload.fields["policy"]))
        conditions = policy["conditions"]
        exact = {
            name: value
            for one in conditions
            if isinstance(one, dict)
            for name, value in one.items()
        }
        others = [one for one in conditions if not isinstance(one, dict)]
        ends_at = datetime.fromisoformat(policy["expiration"])

        assert "films" == exact["bucket"]
        assert exact["key"].startswith(f"video/origin/{FILE}")
        assert "/" not in exact["key"].removeprefix("video/origin/")
        assert said.content_type == exact["Content-Type"]
        assert f"<Value>{FILE}</Value>" in exact["tagging"]
        assert [["content-length-range", said.size, said.size]] == others
        assert upload.fields["key"] == exact["key"]
        assert ends_at <= now + timedelta(seconds=LIFE_S + 5)
        assert upload.expires_at == now + timedelta(seconds=LIFE_S)


async def test_every_url_signs_key_size_type_tag_and_that_nothing_is_there(uploads):
    for said in registrations("put"):
        upload = await uploads.sign(FILE, said, datetime.now(UTC))
        parts = urlsplit(upload.url)
        query = {name: one for name, (one,) in parse_qs(parts.query).items()}
        signed = set(query["X-Amz-SignedHeaders"].split(";"))
        key = unquote(parts.path).lstrip("/")

        assert {"content-length", "content-type", "host", "if-none-match"} <= signed
        assert "x-amz-tagging" in signed
        assert key.startswith(f"video/origin/{FILE}")
        assert "/" not in key.removeprefix("video/origin/")
        assert str(LIFE_S) == query["X-Amz-Expires"]
        assert {
            "Content-Type": said.content_type,
            "If-None-Match": "*",
            "x-amz-tagging": f"file_id={quote(FILE)}",
        } == upload.headers


async def test_credentials_that_are_refused_are_said_to_be(uploads, monkeypatch):
    async def refused(*_: object, **__: object):
        said = {"Error": {"Code": "ExpiredToken", "Message": "It has expired."}}
        raise ClientError(said, "AssumeRole")

    monkeypatch.setattr(uploads._s3, "generate_presigned_url", refused)
    monkeypatch.setattr(uploads._s3, "generate_presigned_post", refused)

    for kind in ("put", "post"):
        with pytest.raises(UnavailableError):
            await uploads.sign(FILE, registrations(kind)[0], datetime.now(UTC))
    with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID"):
        await uploads.origin()


@pytest.fixture
def hand_out(monkeypatch, tmp_path):
    """Credentials that end, as those of a role do; call it to hand out others."""
    (tmp_path / "config").write_text(
        f"[default]\ncredential_process = cat {tmp_path}/credentials\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    def put(token, ends_at):
        said = {
            "Version": 1,
            "AccessKeyId": "ASIA",
            "SecretAccessKey": "s",
            "SessionToken": token,
            "Expiration": ends_at.isoformat(),
        }
        (tmp_path / "credentials").write_text(json.dumps(said))

    return put


def token_of(upload):
    """Whose credentials signed it."""
    if upload.method == "POST":
        return upload.fields["x-amz-security-token"]
    return parse_qs(urlsplit(upload.url).query)["X-Amz-Security-Token"][0]


@pytest.mark.parametrize("kind", ["put", "post"])
@pytest.mark.parametrize("life_s", [900, 86_400])
async def test_an_upload_ends_with_the_credentials_that_signed_it(
    hand_out, kind, life_s
):
    now = datetime.now(UTC)
    said = registrations(kind)[0]
    soon, later = (now + timedelta(minutes=minutes) for minutes in (16, 180))
    hand_out("first", soon)
    async with Uploads("films", "video/origin/", life_s=life_s) as uploads:
        upload = await uploads.sign(FILE, said, now)
        assert "first" == token_of(upload)
        assert min(now + timedelta(seconds=life_s), soon) == upload.expires_at

    hand_out("first", now + timedelta(minutes=5))
    async with Uploads("films", "video/origin/", life_s=life_s) as uploads:
        hand_out("second", later)
        upload = await uploads.sign(FILE, said, now)
        assert "second" == token_of(upload)
        assert min(now + timedelta(seconds=life_s), later) == upload.expires_at
        assert UTC == upload.expires_at.tzinfo
