import json
import socket

import pytest

from gateway.commands.watch import LOST, Outage
from gateway.protocol import sse
from tests.unit.gateway.small_gateway import (
    DROP,
    HELLO,
    failing,
    frame,
    playing,
    state,
)

FIRST = state()
STORY = [FIRST, *playing(FIRST)]


def _states(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


async def test_every_new_state_is_a_line_of_json(gateway, reelready):
    gateway.add(FIRST)
    gateway.scripts.extend(
        [
            [HELLO, *map(frame, STORY[:3]), DROP],
            [HELLO, *map(frame, STORY[2:]), sse.bye("final")],
        ]
    )

    result = await reelready("watch", "f-1", "--url", gateway.url)

    assert (0, "") == (result.exit_code, result.stderr)
    states = _states(result)
    assert [1, 2, 3, 4, 5] == [one["seq"] for one in states]
    assert "playable" == states[-1]["status"]
    assert (
        "http://cdn.test/video/hls/f-1/master.m3u8" == states[-1]["playback"]["hls_url"]
    )


async def test_one_that_does_not_play_fails_the_command(gateway, reelready):
    gateway.add(*STORY)
    gateway.add(state("f-2"), *failing(state("f-2")))

    result = await reelready("watch", "f-1", "f-2", "f-1", REELREADY_URL=gateway.url)

    assert 1 == result.exit_code
    assert {("f-1", "playable"), ("f-2", "failed")} == {
        (one["id"], one["status"]) for one in _states(result)
    }


async def test_a_file_that_is_not_there_does_not_stop_the_others(gateway, reelready):
    gateway.add(*STORY)

    result = await reelready("watch", "f-404", "f-1", "--url", gateway.url)

    assert 1 == result.exit_code
    assert "Error: f-404: there is no such file\n" == result.stderr
    assert ["f-1"] == [one["id"] for one in _states(result)]


async def test_a_gateway_that_is_not_there_is_said_at_once(reelready):
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}/"

    result = await reelready("watch", "f-1", REELREADY_URL=url)

    assert 1 == result.exit_code
    assert result.stderr.startswith(f"Error: f-1: {url} cannot be reached")
    assert result.stderr.endswith("(--url, REELREADY_URL)\n")
    assert 1 == result.stderr.count("\n")


async def test_away_is_said_once_and_not_for_a_stream_that_begins_anew():
    outage = Outage()
    planned = ["connecting", "live", "offline", "connecting", "live", "offline"]
    away = ["connecting", "offline", "connecting", "offline"]

    assert not any(outage.begins(how) for how in planned)
    assert [True] == [said for how in away if (said := outage.begins(how))]


async def test_a_busy_gateway_is_not_away():
    outage = Outage()

    assert not any(outage.begins(how) for how in ["offline", "busy", "offline"])


async def test_a_gateway_that_goes_away_is_waited_for(gateway, reelready):
    gateway.add(FIRST)
    gateway.scripts.extend(
        [[HELLO, DROP], *[[503]] * 3, [HELLO, frame(STORY[4])], [204]]
    )

    result = await reelready("watch", "f-1", "--url", gateway.url)

    assert 0 == result.exit_code
    assert f"f-1: {LOST}\n" == result.stderr


async def test_on_a_terminal_it_is_words_and_a_hostile_name_stays_text(
    gateway, on_terminal
):
    nasty = state(name="[red]a\x1b[2Jb\u202ec")
    gateway.add(nasty, *playing(nasty))
    gateway.states["f-1"], rest = [nasty], gateway.states["f-1"]
    gateway.scripts.append([HELLO, *map(frame, rest), sse.bye("final")])

    terminal = await on_terminal("watch", "f-1", REELREADY_URL=gateway.url)
    code, written = await terminal.end()

    assert 0 == code
    lines = written.splitlines()
    name = "[red]a\ufffd[2Jb\ufffdc"
    assert [
        f"{name}  waiting for the upload",
        f"{name}  waiting for the conversion",
        f"{name}  looking at the video",
        f"{name}  converting 42 %",
        f"{name}  playable",
    ] == [line.partition("  ")[2] for line in lines[:-1]]
    assert "http://cdn.test/video/hls/f-1/master.m3u8" == lines[-1]


async def test_ctrl_c_is_quiet(gateway, on_terminal):
    gateway.add(FIRST)

    terminal = await on_terminal("watch", "f-1", REELREADY_URL=gateway.url)
    await gateway.asked.wait()
    terminal.interrupt()
    code, written = await terminal.end()

    assert 130 == code
    assert 1 == written.count("\n")
    assert "waiting for the upload" in written


@pytest.mark.parametrize(
    ("url", "environ", "code", "said"),
    [
        ("ftp://x/", {}, 2, "is not a URL like https://video.example.com/"),
        ("http://:80/", {}, 2, "is not a URL like"),
        ("http://a:99999/", {}, 2, "Port out of range"),
        ("http://key:secret@a/", {}, 2, "is not a URL like"),
        (
            "http://gateway.test/",
            {},
            2,
            "Error: REELREADY_API_KEY: is not set, and http://gateway.test/ is not on this machine\n",
        ),
        (
            "http://127.0.0.1/",
            {"REELREADY_API_KEY": "clé"},
            2,
            "Error: REELREADY_API_KEY: holds characters that no API key has\n",
        ),
        (
            "http://127.0.0.1/",
            {"REELREADY_API_KEY_FILE": "none/such"},
            2,
            "Error: REELREADY_API_KEY_FILE: cannot be read",
        ),
    ],
)
async def test_where_the_gateway_is_must_make_sense(
    reelready, url, environ, code, said
):
    result = await reelready("watch", "f-1", "--url", url, **environ)

    assert code == result.exit_code
    assert said in result.stderr


async def test_a_wrong_key_names_the_setting_and_is_not_shown(
    gateway, reelready, tmp_path
):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"x")
    key = tmp_path / "key"
    key.write_text("sesame\n")

    result = await reelready(
        "upload", clip, REELREADY_URL=gateway.url, REELREADY_API_KEY_FILE=str(key)
    )

    assert ["Bearer sesame"] == gateway.authorizations
    assert 1 == result.exit_code
    assert (
        "Error: clip.mp4: the API key is not accepted (--api-key, REELREADY_API_KEY)\n"
        == result.stderr
    )
