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

MAX_VARIANTS = 50
"""As many as the gateway takes; so are the limits below."""

MAX_FRAME_RATE = 10_000
MAX_URI_CHARS = 500
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
        PlaylistError: naming the line; it is not a master playlist, is too
            large, or an attribute we read breaks its grammar.
    """
    if len(text) > MAX_PLAYLIST_BYTES:
        where = 1 + text.count("\n", 0, MAX_PLAYLIST_BYTES)
        raise PlaylistError(where, f"it is over {MAX_PLAYLIST_BYTES} characters here")
    lines = [
        (number, line)
        for number, line in enumerate(re.split(r"\r?\n", text), 1)
        if line.strip()
    ]
    if not lines or lines[0][1] != "#EXTM3U":
        raise PlaylistError(lines[0][0] if lines else 1, "it is not #EXTM3U")

    variants: list[Variant] = []
    for place, (number, line) in enumerate(lines, 1):
        if not line.startswith(_STREAM_INF):
            continue
        if len(variants) == MAX_VARIANTS:
            raise PlaylistError(number, f"there are over {MAX_VARIANTS} variants")
        uri = lines[place][1] if place < len(lines) else "#"
        # RFC 8216: the URI line that follows the tag is required.
        if uri.startswith("#"):
            raise PlaylistError(number, "the variant has no URI")
        if len(uri) > MAX_URI_CHARS or not uri.isprintable():
            raise PlaylistError(number, "the URI is too long, or holds what is no text")
        try:
            variants.append(_variant(line.removeprefix(_STREAM_INF), uri))
        except ValueError as problem:
            raise PlaylistError(number, str(problem)) from None
    if not variants:
        raise PlaylistError(lines[-1][0], "the playlist ends without a variant")
    return variants


def _variant(attribute_list: str, uri: str) -> Variant:
    attributes = _attributes(attribute_list)
    bandwidth = _number(attributes, "BANDWIDTH")
    if bandwidth is None:
        msg = "the variant has no BANDWIDTH"
        raise ValueError(msg)
    resolution = _matched(attributes, "RESOLUTION", _RESOLUTION)
    codecs = _matched(attributes, "CODECS", _CODECS)
    frame_rate = _matched(attributes, "FRAME-RATE", _DECIMAL)
    if frame_rate and float(frame_rate[0]) > MAX_FRAME_RATE:
        msg = f"FRAME-RATE is {frame_rate[0]!r}"
        raise ValueError(msg)
    return Variant(
        uri=uri,
        bandwidth=bandwidth,
        average_bandwidth=_number(attributes, "AVERAGE-BANDWIDTH"),
        codecs=codecs[0].strip() or None if codecs else None,
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
            msg = f"attributes break off at {attribute_list[position:][:40]!r}"
            raise ValueError(msg)
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
        raise ValueError(msg)
    return match
