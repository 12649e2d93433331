"""
Reads the variants of an HLS master playlist; strict, bounded, no I/O.

MediaConvert's events say nothing of bandwidth, codecs and frame rate; its
master playlist does.

Source: RFC 8216, sections 4.2 and 4.3.4.2.
"""

import re
from dataclasses import dataclass

from lambdas.errors import PlaylistError

MAX_PLAYLIST_BYTES = 64 * 1024
"""Far above any master playlist of ours; three variants are under 1 KiB."""

_MAX_VARIANTS = 100
_STREAM_INF = "#EXT-X-STREAM-INF:"
_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^",\s]+)(?:,|$)')
_INTEGER = re.compile(r"[0-9]{1,15}")
_DECIMAL = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})?")
_RESOLUTION = re.compile(r"([0-9]{1,6})x([0-9]{1,6})")
_CODECS = re.compile(r"[A-Za-z0-9.,_ -]{1,200}")


@dataclass(frozen=True, slots=True)
class Variant:
    """
    One variant stream.

    Attributes:
        uri: As written; relative to the playlist as a rule.
        bandwidth: Peak bits a second.
        average_bandwidth: Bits a second.
        frame_rate: Frames a second.
    """

    uri: str
    bandwidth: int
    average_bandwidth: int | None
    codecs: str | None
    frame_rate: float | None
    width: int | None
    height: int | None


def parse_master(text: str) -> list[Variant]:
    """
    The variants of a master playlist, in its order.

    Attributes nobody asked for are skipped, whatever they are.

    Raises:
        PlaylistError: It is not a master playlist, is too large, or an
            attribute we read breaks its grammar.
    """
    if len(text) > MAX_PLAYLIST_BYTES:
        msg = f"the playlist is over {MAX_PLAYLIST_BYTES} characters"
        raise PlaylistError(msg)
    lines = [line for line in re.split(r"\r?\n", text) if line.strip()]
    if not lines or lines[0] != "#EXTM3U":
        msg = "the playlist does not begin with #EXTM3U"
        raise PlaylistError(msg)

    variants = [
        _variant(line.removeprefix(_STREAM_INF), _uri_after(lines, number))
        for number, line in enumerate(lines)
        if line.startswith(_STREAM_INF)
    ]
    if not 0 < len(variants) <= _MAX_VARIANTS:
        msg = f"a master playlist has 1 to {_MAX_VARIANTS} variants"
        raise PlaylistError(msg)
    return variants


def _uri_after(lines: list[str], number: int) -> str:
    """RFC 8216: the URI line that follows the tag is required."""
    following = lines[number + 1 : number + 2]
    if not following or following[0].startswith("#"):
        msg = "a variant has no URI"
        raise PlaylistError(msg)
    return following[0]


def _variant(attribute_list: str, uri: str) -> Variant:
    attributes = _attributes(attribute_list)
    bandwidth = _number(attributes, "BANDWIDTH")
    if bandwidth is None:
        msg = "a variant has no BANDWIDTH"
        raise PlaylistError(msg)
    resolution = _matched(attributes, "RESOLUTION", _RESOLUTION)
    codecs = _matched(attributes, "CODECS", _CODECS)
    frame_rate = _matched(attributes, "FRAME-RATE", _DECIMAL)
    return Variant(
        uri=uri,
        bandwidth=bandwidth,
        average_bandwidth=_number(attributes, "AVERAGE-BANDWIDTH"),
        codecs=codecs[0] if codecs else None,
        frame_rate=float(frame_rate[0]) if frame_rate else None,
        width=int(resolution[1]) if resolution else None,
        height=int(resolution[2]) if resolution else None,
    )


def _attributes(attribute_list: str) -> dict[str, str]:
    attributes: dict[str, str] = {}
    position = 0
    while position < len(attribute_list):
        match = _ATTRIBUTE.match(attribute_list, position)
        if match is None:
            msg = f"an attribute list breaks off at {attribute_list[position:][:40]!r}"
            raise PlaylistError(msg)
        attributes[match[1]] = match[2].strip('"')
        position = match.end()
    return attributes


def _number(attributes: dict[str, str], name: str) -> int | None:
    match = _matched(attributes, name, _INTEGER)
    return int(match[0]) if match else None


def _matched(
    attributes: dict[str, str], name: str, grammar: re.Pattern[str]
) -> re.Match[str] | None:
    if name not in attributes:
        return None
    match = grammar.fullmatch(attributes[name])
    if match is None:
        msg = f"{name} is {attributes[name][:40]!r}"
        raise PlaylistError(msg)
    return match
