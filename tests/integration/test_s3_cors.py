"""What a browser may send to the S3 stand-in from another origin, and read of it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.integration.s3_bucket import KEY, ORIGIN, browsing, served_bucket
from tests.s3_server import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with served_bucket(tmp_path / "s3") as running:
        yield running


@pytest.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    async with browsing() as session:
        yield session


async def preflight(
    browser: aiohttp.ClientSession, server: Server, origin: str, **asked: str
) -> tuple[int, dict[str, str]]:
    headers = {
        f"Access-Control-Request-{name.title()}": value for name, value in asked.items()
    }
    async with browser.options(
        f"{server.url}/media/{KEY}", headers=headers | {"Origin": origin}
    ) as answer:
        return answer.status, dict(answer.headers)


async def test_a_preflight_for_the_signed_put_is_allowed(server, browser):
    status, headers = await preflight(
        browser,
        server,
        ORIGIN,
        method="PUT",
        headers="content-type,if-none-match,x-amz-tagging",
    )

    assert 200 == status
    assert ORIGIN == headers["Access-Control-Allow-Origin"]
    assert "PUT" in headers["Access-Control-Allow-Methods"]
    assert (
        "content-type, if-none-match, x-amz-tagging"
        == headers["Access-Control-Allow-Headers"]
    )
    assert "3000" == headers["Access-Control-Max-Age"]
    assert "Origin" in headers["Vary"]


@pytest.mark.parametrize(
    ("origin", "method", "headers"),
    [
        ("https://evil.example.com", "PUT", "content-type"),
        (f"{ORIGIN}.evil.com", "PUT", "content-type"),
        (ORIGIN, "DELETE", "content-type"),
        (ORIGIN, "PUT", "content-type,x-amz-acl"),
    ],
)
async def test_a_preflight_outside_the_rules_is_refused(
    server, browser, origin, method, headers
):
    status, answer = await preflight(
        browser, server, origin, method=method, headers=headers
    )

    assert 403 == status
    assert not [name for name in answer if name.startswith("Access-Control-")]


async def test_a_refusal_can_be_read_by_the_page_too(server, browser):
    async with browser.put(f"{server.url}/media/{KEY}", data=b"x") as answer:
        assert 403 == answer.status
        assert ORIGIN == answer.headers["Access-Control-Allow-Origin"]


async def test_a_public_rule_does_not_name_the_origin(server, browser):
    async with browser.get(
        f"{server.url}/media/none", headers={"Origin": "https://any.example.com"}
    ) as answer:
        assert "*" == answer.headers["Access-Control-Allow-Origin"]
        assert "Access-Control-Allow-Credentials" not in answer.headers
