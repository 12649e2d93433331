"""The way in: signed, idempotent, durable before 2xx."""

import asyncio
import base64
import hmac
import json
import secrets
import time

import pytest

OCCURRED_AT = "2026-01-02T03:04:05Z"
UPLOADED = {"type": "uploaded", "occurred_at": OCCURRED_AT}


@pytest.fixture
def webhook_id():
    """An id that no other test uses."""
    return f"w-{secrets.token_hex(8)}"


async def test_the_same_delivery_twice_changes_nothing_and_answers_the_same(
    gateway,
    webhook_id,
):
    file_id = await gateway.new_file()

    answers = await asyncio.gather(
        *(gateway.report(file_id, "uploaded", webhook_id=webhook_id) for _ in range(20))
    )

    assert [{"outcome": "applied", "seq": 2}] * 20 == answers
    assert [(1,), (2,)] == await gateway.fetch(
        "select seq from events where file_id = $1 order by seq", file_id
    )


async def test_a_webhook_id_with_another_body_or_file_is_refused(gateway, webhook_id):
    one, two = await gateway.new_file(), await gateway.new_file()
    await gateway.report(one, "uploaded", webhook_id=webhook_id)

    for file_id, kind in ((one, "converting"), (two, "uploaded")):
        status, problem = await gateway.post(
            file_id, "reports", UPLOADED | {"type": kind}, webhook_id=webhook_id
        )

        assert (422, "webhook-id") == (status, problem["field"])
    assert 1 == (await gateway.state(two))["seq"]


async def test_late_and_repeated_reports_are_told_apart(gateway):
    file_id = await gateway.new_file()
    await gateway.report(file_id, "converting", job_id="j-1")
    repeated = await gateway.report(file_id, "converting", job_id="j-1")
    late = await gateway.report(file_id, "uploaded")
    await gateway.complete(file_id)
    after_the_end = await gateway.report(file_id, "failed", job_id="j-1")

    assert {"outcome": "duplicate", "seq": 2} == repeated
    assert {"outcome": "stale", "seq": 2} == late
    assert {"outcome": "stale", "seq": 3} == after_the_end
    assert "playable" == (await gateway.state(file_id))["status"]


async def test_progress_within_a_second_is_coalesced(gateway):
    file_id = await gateway.new_file()
    stored = await gateway.report(file_id, "progress", percent=10)
    coalesced = await gateway.report(file_id, "progress", percent=11)

    assert ("applied", "coalesced") == (stored["outcome"], coalesced["outcome"])
    assert stored["seq"] == coalesced["seq"]
    assert 10 == (await gateway.state(file_id))["percent"]


@pytest.mark.parametrize(
    "drop", ["webhook-id", "webhook-timestamp", "webhook-signature"]
)
async def test_a_missing_signature_header_is_401(gateway, sign, drop):
    file_id = await gateway.new_file()
    raw = json.dumps(UPLOADED).encode()
    headers = sign(raw)
    del headers[drop]

    assert 401 == (await post_raw(gateway, file_id, raw, headers))[0]


async def test_forged_old_and_altered_reports_are_401(gateway, webhook_id, sign):
    file_id = await gateway.new_file()
    raw = json.dumps(UPLOADED).encode()
    good = sign(raw, webhook_id=webhook_id)
    altered = raw.replace(b"uploaded", b"failed")
    for body, headers in (
        (altered, good),
        (raw, good | {"webhook-id": "w-2"}),
        (raw, good | {"webhook-timestamp": str(int(time.time()) + 1)}),
        (raw, good | {"webhook-signature": "v1,AAAA"}),
        (raw, good | {"webhook-signature": "v1," + "A" * 43 + "="}),
        (raw, sign(raw, at=time.time() - 301)),
        (raw, sign(raw, at=time.time() + 302)),
    ):
        status, problem = await post_raw(gateway, file_id, body, headers)

        assert (401, "urn:reelready:problem:unauthorized") == (status, problem["type"])
    assert [] == await gateway.fetch(
        "select seq from ingest_ids where webhook_id = $1", webhook_id
    )
    assert 1 == (await gateway.state(file_id))["seq"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"type": "playable"}, "type"),
        ({"type": None}, "type"),
        ({"occurred_at": "yesterday"}, "occurred_at"),
        ({"occurred_at": "2026-01-02T03:04:05"}, "occurred_at"),
        ({"percent": 101}, "percent"),
        ({"percent": -1}, "percent"),
        ({"percent": "42"}, "percent"),
        ({"phase": "TRANSCODING"}, "phase"),
        ({"attempt": 0}, "attempt"),
        ({"job_id": "a\u0000b"}, "job_id"),
        ({"job_id": "j" * 201}, "job_id"),
        ({"error": {"code": "", "message": "x"}}, "error.code"),
        ({"error": {"code": "x", "message": "y" * 2001}}, "error.message"),
        ({"error": "broken"}, "error"),
        ({"sender": "\n"}, "sender"),
    ],
)
async def test_a_wrong_report_field_is_named(gateway, fields, field):
    file_id = await gateway.new_file()

    status, problem = await gateway.post(file_id, "reports", UPLOADED | fields)

    assert (422, field) == (status, problem["field"])
    assert 1 == (await gateway.state(file_id))["seq"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"master_playlist": "https://evil.example/m.m3u8"}, "master_playlist"),
        ({"master_playlist": "s3://other/video/hls/ID/master.m3u8"}, "master_playlist"),
        (
            {"master_playlist": "s3://reelready-test/video/hls/other/master.m3u8"},
            "master_playlist",
        ),
        (
            {"master_playlist": "s3://reelready-test/video/hls/ID/../x.m3u8"},
            "master_playlist",
        ),
        ({"job_id": ""}, "job_id"),
        ({"duration_ms": -1}, "duration_ms"),
        ({"renditions": [{"playlist": "file:///x"}]}, "renditions[0].playlist"),
        ({"renditions": [{}] * 51}, "renditions"),
    ],
)
async def test_a_wrong_manifest_field_is_named(gateway, fields, field):
    file_id = await gateway.new_file()
    said = {
        "job_id": "j-1",
        "occurred_at": OCCURRED_AT,
        "master_playlist": "s3://reelready-test/video/hls/ID/master.m3u8",
    }
    body = json.dumps(said | fields).replace("ID", file_id).encode()

    status, problem = await gateway.post(file_id, "manifest", body)

    assert (422, field) == (status, problem["field"])


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
async def test_what_is_not_a_json_object_is_422(gateway, sign, raw):
    file_id = await gateway.new_file()
    headers = sign(raw) if raw.isascii() else sign_bytes(raw)

    status, problem = await post_raw(gateway, file_id, raw, headers)

    assert (422, "body") == (status, problem["field"])


async def test_an_unknown_file_is_404_and_leaves_nothing(gateway, webhook_id):
    status, _ = await gateway.post(
        "0199-unknown", "reports", UPLOADED, webhook_id=webhook_id
    )

    assert 404 == status
    assert [] == await gateway.fetch(
        "select seq from ingest_ids where webhook_id = $1", webhook_id
    )


async def test_a_body_over_the_limit_is_413(gateway):
    file_id = await gateway.new_file()
    body = UPLOADED | {"padding": "x" * (256 * 1024)}

    status, problem = await gateway.post(file_id, "reports", body)

    assert (413, "urn:reelready:problem:too_large") == (status, problem["type"])


async def test_compressed_bodies_are_refused(gateway, sign):
    file_id = await gateway.new_file()
    raw = json.dumps(UPLOADED).encode()
    headers = sign(raw) | {"Content-Encoding": "gzip"}

    status, _ = await post_raw(gateway, file_id, raw, headers)

    assert status in {400, 422}


async def test_reports_on_one_file_make_a_gapless_log(gateway):
    """
    Concurrent reports on many files, batched as they come.
    """
    file_ids = [await gateway.new_file() for _ in range(20)]

    async def story(file_id):
        await gateway.report(file_id, "uploaded")
        await gateway.report(file_id, "converting", job_id="j-1")
        await gateway.complete(file_id)

    await asyncio.gather(*(story(file_id) for file_id in file_ids))

    logs = await gateway.fetch(
        "select array_agg(seq order by seq) from events"
        " where file_id = any($1) group by file_id",
        file_ids,
    )
    assert [([1, 2, 3, 4],)] * 20 == logs


def sign_bytes(raw):
    """Sign what is not text, which the library cannot."""
    at = int(time.time())
    mac = hmac.digest(b"i" * 24, f"w-9.{at}.".encode() + raw, "sha256")
    return {
        "webhook-id": "w-9",
        "webhook-timestamp": str(at),
        "webhook-signature": "v1," + base64.b64encode(mac).decode(),
    }


async def post_raw(gateway, file_id, raw, headers):
    path = f"{gateway.url}/v1/files/{file_id}/reports"
    async with gateway.http.post(path, data=raw, headers=headers) as answer:
        return answer.status, await answer.json()
