"""Registering files: what is signed, and what is refused."""

import base64
import json
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from yarl import URL

GOOD = {"name": "a.mp4", "content_type": "video/mp4", "size": 10}


async def test_the_answer_holds_file_upload_and_cursor(gateway):
    made = await gateway.create(
        name="휴가 (1)+final.MOV", owner="u-17", metadata={"course": {"id": 3}}
    )
    file, upload, watch = made["file"], made["upload"], made["watch"]

    signed = parse_qs(urlsplit(upload["url"]).query)["X-Amz-SignedHeaders"]
    assert ["content-length;content-type;host;if-none-match;x-amz-tagging"] == signed
    assert f"/video/origin/{file['id']}.mov?" in upload["url"]
    assert f"file_id={file['id']}" == upload["headers"]["x-amz-tagging"]
    assert "*" == upload["headers"]["If-None-Match"]
    assert ("awaiting_upload", 1, 1) == (file["status"], file["seq"], watch["after"])
    assert ("휴가 (1)+final.MOV", "u-17") == (file["name"], file["owner"])
    assert {"course": {"id": 3}} == file["metadata"]
    assert watch["events_url"].endswith(f"/v1/files/{file['id']}/events")


async def test_the_watch_token_opens_this_file_and_no_other(gateway):
    mine = await gateway.create()
    other = await gateway.new_file()
    bearer = {"Authorization": f"Bearer {mine['watch']['token']}"}
    path = f"{gateway.url}/v1/files"

    async with gateway.http.get(f"{path}/{mine['file']['id']}", headers=bearer) as one:
        assert 200 == one.status
    async with gateway.http.get(f"{path}/{other}", headers=bearer) as two:
        assert 404 == two.status
    async with gateway.http.post(path, json=GOOD, headers=bearer) as three:
        assert 401 == three.status


async def test_a_post_upload_is_signed_with_the_same_limits(gateway):
    made = await gateway.create(upload="post", size=1234)
    upload = made["upload"]

    policy = json.loads(base64.b64decode(upload["fields"]["policy"]))
    assert "POST" == upload["method"]
    assert ["content-length-range", 1234, 1234] in policy["conditions"]
    assert {"key": f"video/origin/{made['file']['id']}.mp4"} in policy["conditions"]
    assert "headers" not in upload
    assert made["file"]["id"] in upload["fields"]["tagging"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "a" * 256}, "name"),
        ({"name": "a\nb.mp4"}, "name"),
        ({"name": "a\x00.mp4"}, "name"),
        ({"name": 7}, "name"),
        ({"name": None}, "name"),
        ({"content_type": "mp4"}, "content_type"),
        ({"content_type": "text/html"}, "content_type"),
        ({"content_type": "video/mp4\r\nX: y"}, "content_type"),
        ({"size": 0}, "size"),
        ({"size": -1}, "size"),
        ({"size": 5 * 1024**3 + 1}, "size"),
        ({"size": 1.5}, "size"),
        ({"size": "10"}, "size"),
        ({"owner": ""}, "owner"),
        ({"owner": "o" * 201}, "owner"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"a": "x" * 4097}}, "metadata"),
        ({"upload": "multipart"}, "upload"),
    ],
)
async def test_a_wrong_field_is_named_and_nothing_is_stored(gateway, fields, field):
    before = await gateway.fetch("select count(*) from files")
    async with gateway.http.post(f"{gateway.url}/v1/files", json=GOOD | fields) as got:
        problem = await got.json()

    assert (422, field) == (got.status, problem["field"])
    assert "application/problem+json" == got.headers["Content-Type"]
    assert before == await gateway.fetch("select count(*) from files")


@pytest.mark.parametrize("missing", GOOD)
async def test_a_missing_field_is_named(gateway, missing):
    said = {key: value for key, value in GOOD.items() if key != missing}
    async with gateway.http.post(f"{gateway.url}/v1/files", json=said) as answer:
        assert (422, missing) == (answer.status, (await answer.json())["field"])


async def test_unknown_fields_are_ignored(gateway):
    assert (await gateway.create(colour="green"))["file"]["id"]


@pytest.mark.parametrize(
    ("credential", "said"),
    [
        (None, "an API key is required"),
        ("Bearer wrong", "the API key is not accepted"),
        ("Bearer \xff\xfe", "the API key is not accepted"),
        ("", "an API key is required"),
        ("Basic a2V5Og==", "an API key is required"),
    ],
)
async def test_without_the_key_nothing_is_registered(gateway, credential, said):
    headers = {} if credential is None else {"Authorization": credential}
    async with (
        aiohttp.ClientSession() as nobody,
        nobody.post(f"{gateway.url}/v1/files", json=GOOD, headers=headers) as answer,
    ):
        assert (401, said) == (answer.status, (await problem(answer))["detail"])
        assert "Bearer" in answer.headers["WWW-Authenticate"]


async def test_reading_with_a_wrong_key_is_not_blamed_on_a_token(gateway):
    path = f"{gateway.url}/v1/files/{await gateway.new_file()}"
    wrong = {"Authorization": "Bearer wrong"}

    async with gateway.http.get(path, headers=wrong) as answer:
        said = await problem(answer)

    assert "the API key is not accepted" == said["detail"]


async def test_the_story_names_every_event_and_its_sender(gateway):
    file_id = await gateway.new_file()
    await gateway.report(file_id, "uploaded", sender="video_media_converter")
    path = f"{gateway.url}/v1/files/{file_id}/history"

    async with gateway.http.get(path) as answer:
        story = await answer.json()

    assert [("created", "gateway"), ("uploaded", "video_media_converter")] == [
        (event["type"], event["sender"]) for event in story["events"]
    ]
    assert story["file"] == story["events"][-1]["state"]
    assert 2 == story["after"]


@pytest.mark.parametrize(
    ("after", "seqs"),
    [("", [1, 2, 3]), ("0", [1, 2, 3]), ("1", [2, 3]), ("3", [])]
    + [(unknown, [1, 2, 3]) for unknown in ("4", "x", "-1", "%00", "9" * 40)],
)
async def test_a_story_goes_on_after_any_event_of_it(gateway, after, seqs):
    file_id = await gateway.new_file()
    await gateway.report(file_id, "uploaded")
    await gateway.complete(file_id)
    path = f"{gateway.url}/v1/files/{file_id}/history?after={after}"

    async with gateway.http.get(URL(path, encoded=True)) as answer:
        story = await answer.json()

    assert seqs == [event["seq"] for event in story["events"]]
    assert ("playable", 3) == (story["file"]["status"], story["after"])


async def test_unknown_addresses_and_methods_are_problems_too(gateway):
    for method, path, status in (
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/files/UPPER", 404),
        ("GET", "/v1/files/" + "a" * 65, 404),
        ("GET", "/static/..%2f..%2fetc%2fpasswd", 404),
        ("DELETE", "/v1/files", 405),
    ):
        async with gateway.http.request(method, f"{gateway.url}{path}") as answer:
            assert status == answer.status
            assert "application/problem+json" == answer.headers["Content-Type"]


async def test_cross_origin_reading_is_for_the_listed_origins_only(gateway_with):
    origins = ("https://app.example.com",)
    async with gateway_with(allowed_origins=origins) as gateway:
        file_id = await gateway.new_file()
        for origin, allowed in (
            ("https://app.example.com", True),
            ("https://app.example.com.evil.example", False),
            ("http://app.example.com", False),
            ("null", False),
        ):
            for method in ("GET", "OPTIONS"):
                headers = {"Origin": origin, "Access-Control-Request-Method": "GET"}
                path = f"{gateway.url}/v1/files/{file_id}/events?wait=0"
                async with gateway.http.request(
                    method, path, headers=headers
                ) as answer:
                    granted = answer.headers.get("Access-Control-Allow-Origin")

                    assert (origin if allowed else None) == granted
                    assert "Origin" in answer.headers["Vary"]


async def problem(answer):
    return await answer.json(content_type="application/problem+json")
