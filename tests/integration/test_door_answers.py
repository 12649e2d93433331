"""What the door answers, on what headers, and what is written down of it."""

import re

import pytest

from tests.integration.wire import SSE, request, served


class TestMethods:
    def test_wrong_ones_are_405_and_say_what_is_right(self, place):
        path = f"/v1/files/{place.new_file()}"
        right = {
            path: "GET, HEAD",
            f"{path}/events": "GET",
            f"{path}/reports": "POST",
            f"{path}/manifest": "POST",
            "/v1/events": "GET",
        }
        wrong = [
            (method, target, allow)
            for target, allow in right.items()
            for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
            if method not in allow
        ]
        with place.wire() as wire:
            for method, target, allow in wrong:
                wire.send(request(method, target))
                answer = wire.answer(to_head=method == "HEAD")

                assert (405, allow) == (answer.status, answer.headers["allow"])

    def test_head_is_get_without_the_body(self, place):
        path = f"/v1/files/{place.new_file()}"
        with place.wire() as wire:
            wire.send(request("GET", path) + request("HEAD", path))
            whole, bare = wire.answer(), wire.answer(to_head=True)
            wire.send(request("HEAD", f"{path}?after=1") + request("GET", path))
            unchanged, again = wire.answer(), wire.answer()

        dates = whole.headers.pop("date"), bare.headers.pop("date")
        assert all(dates)
        assert whole.headers == bare.headers
        assert [304, 200] == [unchanged.status, again.status]

    def test_preflights_of_hot_paths_are_answered(self, gateway_with, new_loop):
        asks = {
            "Origin": "https://app.example.com",
            "Access-Control-Request-Method": "GET",
            "Authorization": "",
        }

        def make():
            return gateway_with(allowed_origins=("https://app.example.com",))

        with served(make, new_loop) as place:
            for path in (
                "/v1/files/x",
                "/v1/files/x/events",
                "/v1/events",
                "/v1/files",
            ):
                with place.wire() as wire:
                    wire.send(request("OPTIONS", path, asks))
                    answer = wire.answer()

                    assert 204 == answer.status
                    assert "GET" in answer.headers["access-control-allow-methods"]
                    assert (
                        asks["Origin"] == answer.headers["access-control-allow-origin"]
                    )


class TestWhatIsWrittenDown:
    def test_the_log_has_a_line_each_and_never_a_query(self, place, post, caplog):
        file_id = place.new_file()
        path = f"/v1/files/{file_id}"
        caplog.clear()
        with place.wire() as wire:
            wire.send(request("GET", f"{path}?token=secret", {"Authorization": ""}))
            wire.answer()
            wire.send(post(f"{path}/reports?token=secret"))
            wire.answer()
            wire.send(b"nonsense secret\r\n\r\n")
            wire.answer()
        with place.wire() as wire:
            wire.send(request("GET", f"{path}/events?token=secret", SSE))
            wire.until(b"id: 2\n")
        with place.wire() as wire:
            wire.send(request("GET", "/?token=secret"))
            wire.answer()
        while "GET / 200" not in caplog.text:
            pass
        lines = [
            (one.getMessage(), one.remote)
            for one in caplog.records
            if one.name == "reelready.access"
        ]

        assert [
            (f"GET {path} 401", "127.0.0.1"),
            (f"POST {path}/reports 200", "127.0.0.1"),
            (f"GET {path}/events 200", "127.0.0.1"),
            ("GET / 200", "127.0.0.1"),
        ] == sorted(lines, key=lambda line: line[0].startswith("GET / "))
        assert "secret" not in caplog.text

    def test_answers_are_counted_by_route_and_status(self, place, post):
        file_id = place.new_file()
        path = f"/v1/files/{file_id}"
        with place.wire() as wire:
            wire.send(request("GET", path) * 2 + post(f"{path}/reports", b"{}"))
            statuses = [wire.answer().status for _ in range(3)]
            wire.send(post(f"{path}/manifest", b"[" * 300_000))
            statuses.append(wire.answer().status)
        for raw in (b"nonsense\r\n\r\n", request("GET", path) + b"nonsense\r\n\r\n"):
            with place.wire() as wire:
                wire.send(raw)
                wire.rest()
        pattern = r'http_requests_total{route="(.*)",status="(.*)"} (.*)\n'
        counted = {
            (route, int(status)): float(value)
            for route, status, value in re.findall(pattern, place.metrics())
        }

        assert [200, 200, 422, 413] == statuses
        assert 3 == counted["/v1/files/{file_id}", 200]
        assert 1 == counted["/v1/files/{file_id}/reports", 422]
        assert 1 == counted["/v1/files/{file_id}/manifest", 413]
        assert 2 == counted["unmatched", 400]
        assert not any(status >= 500 and status != 503 for _, status in counted)


COMPARED = [
    "server",
    "x-content-type-options",
    "referrer-policy",
    "vary",
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-expose-headers",
    "cache-control",
    "content-type",
    "www-authenticate",
]


@pytest.mark.parametrize("origin", ["https://app.example.com", "https://evil.example"])
@pytest.mark.parametrize(
    ("by_door", "by_aiohttp"),
    [
        (("GET", "/v1/files/{id}/events"), ("GET", "/v1/files/{id}/history")),
        (("GET", "/v1/files/{id}?token=x"), ("POST", "/v1/files")),
        (("GET", "/v1/files/not-there"), ("GET", "/v1/files/not-there/history")),
        (("DELETE", "/v1/files/{id}"), ("DELETE", "/v1/files")),
        (("GET", "/v1/files/{id}?wait=x"), ("POST", "/v1/files")),
    ],
    ids=["state", "no key", "not there", "wrong method", "invalid"],
)
async def test_both_ways_in_put_the_same_headers_on(
    gateway_with, by_door, by_aiohttp, origin, request
):
    seen = []
    anonymous = "no key" in request.node.callspec.id
    async with gateway_with(allowed_origins=("https://app.example.com",)) as gateway:
        file_id = await gateway.new_file()
        headers = {"Authorization": "Bearer nobody"} if anonymous else {}
        for method, path in (by_door, by_aiohttp):
            async with gateway.http.request(
                method,
                gateway.url + path.replace("{id}", file_id),
                headers=headers | {"Origin": origin},
                json={} if method == "POST" else None,
            ) as answer:
                await answer.read()
                common = {name: answer.headers.get(name) for name in COMPARED}
                assert re.fullmatch(
                    r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", answer.headers["Date"]
                )
                seen.append((answer.status, common))

    assert seen[0] == seen[1]
    assert "reelready" == seen[0][1]["server"]
    granted = seen[0][1]["access-control-allow-origin"]
    assert (origin if "app" in origin else None) == granted
