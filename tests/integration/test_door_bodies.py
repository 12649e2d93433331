"""Bodies and chunks at the door, whole and in pieces, on both kinds of loop."""

import pytest

from gateway.web import connection as connections
from tests.integration.wire import UPLOADED, request


class TestPieces:
    def test_bytes_may_come_one_at_a_time(self, place, post, post_chunked):
        file_id = place.new_file()
        path = f"/v1/files/{file_id}"
        failed = UPLOADED.replace(b"uploaded", b"converting")
        with place.wire() as wire:
            wire.send_bytewise(request("GET", path))
            got = wire.answer()
            wire.send_bytewise(post(f"{path}/reports"))
            posted = wire.answer()
            wire.send_bytewise(post_chunked(f"{path}/reports", failed[:7], failed[7:]))
            chunked = wire.answer()
        with place.wire() as wire:
            wire.send_bytewise(request("GET", "/"))
            page = wire.answer()

        assert [200] * 4 == [one.status for one in (got, posted, chunked, page)]
        assert [2, 3] == [posted.json()["seq"], chunked.json()["seq"]]

    def test_empty_lines_before_a_request_are_nothing(self, place, post):
        file_id = place.new_file()
        path = f"/v1/files/{file_id}"
        with place.wire() as wire:
            for lines in (b"\r\n", b"\r\n\r\n", b"\r\n" * 9, b"\n"):
                wire.send(lines + request("GET", path))

                assert 200 == wire.answer().status
            wire.send(b"\r\n\r\n")
            wire.send(post(f"{path}/reports") + b"\r\n")
            wire.send(b"\r\n\r\n" + request("GET", "/healthz"))

            assert [200, 200] == [wire.answer().status, wire.answer().status]


class TestChunks:
    @pytest.mark.parametrize(
        "end",
        [
            b"0\r\n\r\n",
            b"000\r\n\r\n",
            b'0;a="b"\r\n\r\n',
            b"0\r\nETag: x\r\nA: b\r\n\r\n",
        ],
    )
    def test_any_legal_end_will_do(self, place, post_chunked, end):
        file_id = place.new_file()
        with place.wire() as wire:
            wire.send(
                post_chunked(
                    f"/v1/files/{file_id}/reports", UPLOADED[:9], UPLOADED[9:], end=end
                )
            )
            answer = wire.answer()

            assert (200, "close") == (answer.status, answer.headers["connection"])
            assert b"" == wire.rest()

    @pytest.mark.parametrize(
        "behind",
        [
            b"garbage",
            b"\x00\xff",
            b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            b"POST",
        ],
    )
    def test_what_follows_the_last_chunk_is_never_served(
        self, place, post, post_chunked, behind
    ):
        file_id = place.new_file()
        path = f"/v1/files/{file_id}/reports"
        second = post(path, UPLOADED.replace(b"uploaded", b"canceled"))
        if behind == b"POST":
            behind = second
        with place.wire() as wire:
            wire.send(post_chunked(path, UPLOADED) + behind + second)

            assert 200 == wire.answer().status
            assert b"" == wire.rest_or_reset()
        assert 2 == place.events(file_id)

    @pytest.mark.parametrize(
        "end",
        [
            b"x\r\n",
            b"-1\r\n",
            b"fffffffffffffffff\r\n",
            b"5\r\nabcdefg\r\n0\r\n\r\n",
            b"0x1\r\na\r\n0\r\n\r\n",
            b"1\na\r\n0\r\n\r\n",
        ],
    )
    def test_broken_chunks_are_refused(self, place, post_chunked, post, end):
        file_id = place.new_file()
        path = f"/v1/files/{file_id}/reports"
        with place.wire() as wire:
            wire.send(post_chunked(path, UPLOADED, end=end) + post(path))
            answer = wire.answer()

            assert (400, "application/problem+json") == (
                answer.status,
                answer.headers["content-type"],
            )
            assert b"" == wire.rest_or_reset()
        assert 1 == place.events(file_id)


class TestBodies:
    def test_256_kib_are_taken_and_one_byte_more_is_not(
        self, place, post, post_chunked
    ):
        most = connections.MAX_BODY_BYTES
        file_id = place.new_file()
        path = f"/v1/files/{file_id}/reports"
        full, over = UPLOADED.ljust(most), UPLOADED.ljust(most + 1)
        with place.wire() as wire:
            wire.send(post(path, full))
            plain = wire.answer()
            wire.send(post_chunked(path, full[:9], full[9:]))
            chunked = wire.answer()
        assert [200, 200] == [plain.status, chunked.status]
        for asked in (post(path, over), post_chunked(path, over), post(path, over * 8)):
            with place.wire() as wire:
                wire.send(asked)
                answer = wire.answer()

                assert (413, "close") == (answer.status, answer.headers["connection"])
                assert b"" == wire.rest_or_reset()

    def test_a_client_is_told_to_continue_only_if_it_may(self, place, post):
        file_id = place.new_file()
        path = f"/v1/files/{file_id}/reports"
        asked = post(path, headers={"Expect": "100-Continue"})
        head, _, body = asked.partition(b"\r\n\r\n")
        with place.wire() as wire:
            wire.send(head + b"\r\n\r\n")
            told = wire.answer()
            wire.send(body)
            answer = wire.answer()
            wire.send(post(path, b"[]" * 200_000, {"Expect": "100-continue"}))
            refused = wire.answer()

        assert [100, 200, 413] == [told.status, answer.status, refused.status]

    def test_a_body_on_a_get_is_read_and_passed_over(self, place):
        file_id = place.new_file()
        with place.wire() as wire:
            for _ in range(2):
                smuggled = request("GET", "/healthz")
                wire.send(request("GET", f"/v1/files/{file_id}", body=smuggled))

                assert '"1"' == wire.answer().headers["etag"]
            assert wire.is_silent()
