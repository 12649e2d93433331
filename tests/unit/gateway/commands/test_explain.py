import json
import re

import pytest
from msgspec.structs import replace

from gateway.model import LEAP
from tests.unit.gateway.small_gateway import failing, playing, state

FIRST = state(name="휴가.mov")


async def test_the_story_is_one_document_in_a_line(gateway, reelready):
    gateway.add(FIRST, *playing(FIRST))

    result = await reelready("explain", "f-1", REELREADY_URL=gateway.url)

    assert 0 == result.exit_code
    [line] = result.stdout.splitlines()
    story = json.loads(line)
    assert [1, 2, 3, 4, 5] == [event["seq"] for event in story["events"]]
    assert "playable" == story["file"]["status"]


async def test_on_a_terminal_it_is_a_table(gateway, on_terminal):
    story = playing(FIRST)
    del story[1]
    gateway.add(FIRST, *story)

    terminal = await on_terminal("explain", "f-1", REELREADY_URL=gateway.url, TZ="UTC")
    code, written = await terminal.end()

    assert 0 == code
    lines = [re.sub(r" {2,}", "  ", line).strip() for line in written.splitlines()]
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert "휴가.mov, 10 bytes, f-1" == lines[0]
    assert "2026-01-02" == lines[2]
    assert "1  03:04:06.000  1.5 s  registered  waiting for the upload" == lines[3]
    assert "...  progress, no longer kept" == lines[5]
    assert "5  03:04:10.000" == lines[7][:15]
    assert lines[7].endswith("playable  mediaconvert")
    assert "http://cdn.test/video/hls/f-1/master.m3u8" == lines[-1]


async def test_on_80_columns_nothing_is_folded_inside_a_word(gateway, on_terminal):
    gateway.add(FIRST, *playing(FIRST))
    gateway.sender = "hls_file_manifest_saver"

    terminal = await on_terminal(
        "explain", "f-1", REELREADY_URL=gateway.url, COLUMNS="80"
    )
    code, written = await terminal.end()

    assert 0 == code
    ends = {line.split()[-1] for line in written.splitlines() if line.strip()}
    assert {"hls_file_", "manifest_saver"} <= ends
    assert not {"hls_file_m", "r"} & ends


async def test_a_leap_is_told_as_what_it_is(gateway, on_terminal):
    leapt = 3 + LEAP
    gateway.add(FIRST, replace(playing(FIRST)[-1], seq=leapt))

    terminal = await on_terminal("explain", "f-1", REELREADY_URL=gateway.url)
    _, written = await terminal.end()

    assert "failover" in written
    assert "no longer kept" not in written


async def test_a_failure_is_told(gateway, on_terminal):
    gateway.add(FIRST, *failing(FIRST))

    terminal = await on_terminal("explain", "f-1", REELREADY_URL=gateway.url)
    code, written = await terminal.end()

    assert 0 == code
    assert "failed: There is no video in this file." == written.splitlines()[-1]


@pytest.mark.parametrize(
    ("file_id", "said"),
    [
        ("f-404", "f-404: there is no such file"),
        ("../x", "id: '../x' is not a file id"),
    ],
)
async def test_an_unknown_file_is_one_line(gateway, reelready, file_id, said):
    result = await reelready("explain", file_id, REELREADY_URL=gateway.url)

    assert (1, f"Error: {said}\n") == (result.exit_code, result.stderr)
