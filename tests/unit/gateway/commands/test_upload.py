import json
import re

import pytest

from gateway.commands.upload import MAX_UPLOADS
from tests.unit.gateway.small_gateway import failing

URL = "http://cdn.test/video/hls/f-1/master.m3u8"
SHOW_CURSOR = "\x1b[?25h"


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"x" * 2_000_000)
    return path


def _lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


async def test_piped_it_is_every_state_of_the_file(gateway, reelready, clip):
    result = await reelready("upload", clip, "--watch", REELREADY_URL=gateway.url)

    assert (0, "") == (result.exit_code, result.stderr)
    states = _lines(result)
    assert [1, 2, 3, 4, 5] == [one["seq"] for one in states]
    assert URL == states[-1]["playback"]["hls_url"]
    assert 2_000_000 == gateway.puts[0][2]


async def test_without_watch_it_ends_with_the_upload(gateway, reelready, clip):
    result = await reelready(
        "upload",
        clip,
        "--name",
        "Summer.mov",
        "--content-type",
        "video/x-summer",
        "--owner",
        "u-17",
        REELREADY_URL=gateway.url,
    )

    assert 0 == result.exit_code
    [file] = _lines(result)
    assert ("f-1", "Summer.mov", "u-17") == (file["id"], file["name"], file["owner"])
    assert "video/x-summer" == gateway.registrations[0]["content_type"]
    assert [] == gateway.cursors


async def test_many_files_go_a_few_at_a_time(gateway, reelready, tmp_path):
    paths = [tmp_path / f"{number}.mp4" for number in range(9)]
    for path in paths:
        path.write_bytes(b"x" * 300_000)

    result = await reelready("upload", "--watch", *paths, REELREADY_URL=gateway.url)

    assert 0 == result.exit_code
    assert 9 == len(gateway.puts)
    assert 2 <= gateway.most_putting <= MAX_UPLOADS
    assert 9 == sum(one["status"] == "playable" for one in _lines(result))


async def test_one_that_fails_does_not_stop_the_others(gateway, reelready, clip):
    text = clip.with_name("notes.txt")
    text.write_text("not a video")
    empty = clip.with_name("empty.mp4")
    empty.touch()

    result = await reelready(
        "upload", "--watch", clip, text, empty, REELREADY_URL=gateway.url
    )

    assert 1 == result.exit_code
    assert (
        "Error: notes.txt: content_type: text/plain is not a video\n" in result.stderr
    )
    assert ["clip.mp4"] == [
        one["name"]
        for one in _lines(result)
        if one["status"] == "playable" and one["name"] == "clip.mp4"
    ]


async def test_a_file_that_does_not_play_says_why(gateway, reelready, clip):
    gateway.story = failing

    result = await reelready("upload", "--watch", clip, REELREADY_URL=gateway.url)

    assert 1 == result.exit_code
    assert "Error: clip.mp4: There is no video in this file.\n" == result.stderr
    assert "failed" == _lines(result)[-1]["status"]


async def test_a_storage_that_refuses_says_why(gateway, reelready, clip):
    gateway.put_answers.append(403)

    result = await reelready("upload", clip, REELREADY_URL=gateway.url)

    assert 1 == result.exit_code
    assert (
        "Error: clip.mp4: the storage refused it: AccessDenied: Request has expired\n"
        == result.stderr
    )


async def test_what_is_no_file_is_a_usage_error_before_anything_is_sent(
    gateway, reelready, clip, tmp_path
):
    for wrong in (tmp_path, tmp_path / "none.mp4"):
        result = await reelready("upload", clip, wrong, REELREADY_URL=gateway.url)
        assert 2 == result.exit_code

    result = await reelready(
        "upload", clip, clip, "--name", "x", REELREADY_URL=gateway.url
    )
    assert 2 == result.exit_code
    assert [] == gateway.registrations


async def test_on_a_terminal_there_are_bars_and_last_the_url(
    gateway, on_terminal, clip
):
    terminal = await on_terminal("upload", "--watch", clip, REELREADY_URL=gateway.url)
    code, written = await terminal.end()

    assert 0 == code
    assert "clip.mp4" in written
    assert re.search(r"uploading .* of 2\.0 MB", written)
    assert "playable" in written
    assert URL == written.splitlines()[-1].removeprefix(SHOW_CURSOR)


async def test_on_a_terminal_it_says_where_the_page_shows_the_file(
    gateway, on_terminal, clip
):
    terminal = await on_terminal("upload", clip, REELREADY_URL=gateway.url)
    code, written = await terminal.end()

    assert 0 == code
    link = re.search(r"clip\.mp4: on the page: (\S+)", written)
    assert f"{gateway.url}?file=f-1&token=t" == link[1]


async def test_a_pipe_is_given_no_token(gateway, reelready, clip):
    result = await reelready("upload", clip, REELREADY_URL=gateway.url)

    assert "token" not in result.output


async def test_on_a_terminal_each_of_several_has_its_line(gateway, on_terminal, clip):
    hostile = clip.with_name("[red]\x1b[2J.mp4")
    hostile.write_bytes(b"y")
    text = clip.with_name("notes.txt")
    text.write_text("not a video")

    terminal = await on_terminal(
        "upload", "--watch", clip, hostile, text, REELREADY_URL=gateway.url
    )
    code, written = await terminal.end()

    assert 1 == code
    assert re.search(
        r"clip\.mp4: http://cdn\.test/video/hls/f-\d/master\.m3u8", written
    )
    assert "[red]\ufffd[2J.mp4: http://cdn.test/" in written
    assert "\x1b[2J" not in written
    assert (
        "Error: notes.txt: content_type: text/plain is not a video"
        == written.splitlines()[-1].removeprefix(SHOW_CURSOR)
    )


async def test_ctrl_c_during_an_upload_is_quiet(gateway, on_terminal, clip):
    gateway.story = lambda first: []

    terminal = await on_terminal("upload", "--watch", clip, REELREADY_URL=gateway.url)
    await gateway.asked.wait()
    terminal.interrupt()
    code, written = await terminal.end()

    assert 130 == code
    assert "Traceback" not in written
    assert "Error" not in written
