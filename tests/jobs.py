"""MediaConvert jobs to test with, in the JSON of the wire."""

from typing import Any


def output(
    modifier: str = "_240", width: int = 426, height: int = 240, **video: Any
) -> dict[str, Any]:
    """One H.264 rendition with stereo sound."""
    h264 = {
        "rateControlMode": "QVBR",
        "maxBitrate": 1_000_000,
        "gopSize": 1,
        "gopSizeUnits": "SECONDS",
    }
    aac = {"bitrate": 96000, "codingMode": "CODING_MODE_2_0", "sampleRate": 48000}
    return {
        "nameModifier": modifier,
        "containerSettings": {"container": "M3U8"},
        "videoDescription": {
            "width": width,
            "height": height,
            "scalingBehavior": "FIT_NO_UPSCALE",
            "codecSettings": {"codec": "H_264", "h264Settings": h264},
            **video,
        },
        "audioDescriptions": [
            {"codecSettings": {"codec": "AAC", "aacSettings": aac}},
        ],
    }


def settings(
    *outputs: dict[str, Any],
    source: str = "s3://films/in/a.mp4",
    destination: str = "s3://films/out/a/master",
    segment_s: int = 1,
) -> dict[str, Any]:
    """``Settings`` of a job; two renditions when none are given."""
    hls = {
        "destination": destination,
        "segmentLength": segment_s,
        "minSegmentLength": 0,
    }
    group = {
        "outputGroupSettings": {
            "type": "HLS_GROUP_SETTINGS",
            "hlsGroupSettings": hls,
        },
        "outputs": list(outputs) or [output("_720", 1280, 720), output()],
    }
    source_input = {"fileInput": source, "videoSelector": {"rotate": "AUTO"}}
    return {"inputs": [source_input], "outputGroups": [group]}


def request(*outputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A whole CreateJob; ``more`` goes to ``settings``."""
    return {
        "role": "arn:aws:iam::000000000000:role/convert",
        "settings": settings(*outputs, **more),
        "userMetadata": {"file_id": "f-1"},
    }
