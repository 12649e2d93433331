"""
MediaConvert jobs: the settings of one, and how to make it exactly once.

A fixed ladder of single-pass AVC stays in the Basic tier, its playlists have
names that are known beforehand, and the laptop's stand-in can mirror it.

Source: MediaConvert API reference 2017-08-29.
"""

import hashlib
from typing import Any

from botocore.exceptions import ClientError

from lambdas.errors import JobRefusedError
from lambdas.settings import ConverterSettings
from lambdas.uploads import Upload

_REFUSALS = {"BadRequestException", "NotFoundException"}
"""
Answers no retry can change.  Missing permissions are not among them: a person
grants them and sends the event again from the dead-letter queue.  Nor is a
conflict, which may be with the job that an unanswered try has made: the next
one looks for it.
"""

_MAX_SEARCH_PAGES = 5

_LADDER = {
    1080: (1920, 5_000_000, 8),
    720: (1280, 3_000_000, 7),
    540: (960, 2_000_000, 7),
    480: (854, 1_400_000, 7),
    360: (640, 800_000, 7),
    240: (426, 400_000, 7),
}
"""Height: width, highest bits a second, QVBR quality level."""


def job_request(
    upload: Upload, file_id: str, attempt: int, settings: ConverterSettings
) -> dict[str, Any]:
    """The arguments of CreateJob for one upload."""
    output = f"s3://{upload.bucket}/{settings.output_prefix}{file_id}/master"
    request: dict[str, Any] = {
        "Role": settings.role_arn,
        "ClientRequestToken": _token(file_id, attempt),
        "StatusUpdateInterval": f"SECONDS_{settings.status_update_s}",
        # All that comes back in the events.  The bucket names the playlist
        # when a COMPLETE event names none.
        "UserMetadata": {
            "file_id": file_id,
            "attempt": str(attempt),
            "bucket": upload.bucket,
        },
        "AccelerationSettings": {"Mode": "DISABLED"},
        "Settings": {
            "TimecodeConfig": {"Source": "ZEROBASED"},
            "Inputs": [_input(upload.uri)],
            "OutputGroups": [_hls_group(output, settings.heights)],
        },
    }
    if settings.queue_arn is not None:
        request["Queue"] = settings.queue_arn
    return request


def create_job(mediaconvert: Any, request: dict[str, Any]) -> str:
    """
    Make a job.

    Returns:
        Its id.

    Raises:
        JobRefusedError: MediaConvert will never take it.
        ClientError, BotoCoreError: Anything that may pass.
    """
    try:
        answer = mediaconvert.create_job(**request)
    except ClientError as problem:
        error = problem.response["Error"]
        if error["Code"] in _REFUSALS:
            raise JobRefusedError(error.get("Message", error["Code"])) from problem
        raise
    return str(answer["Job"]["Id"])


def find_job(
    mediaconvert: Any,
    upload: Upload,
    file_id: str,
    attempt: int,
) -> str | None:
    """The oldest job already made of this upload and attempt, if there is one."""
    query: dict[str, Any] = {
        "InputFile": upload.uri,
        "Order": "ASCENDING",
        "MaxResults": 20,
    }
    for _ in range(_MAX_SEARCH_PAGES):
        answer = mediaconvert.search_jobs(**query)
        for job in answer.get("Jobs", []):
            metadata = job.get("UserMetadata", {})
            if (metadata.get("file_id"), metadata.get("attempt")) == (
                file_id,
                str(attempt),
            ):
                return str(job["Id"])
        if not answer.get("NextToken"):
            break
        query["NextToken"] = answer["NextToken"]
    return None


def _token(file_id: str, attempt: int) -> str:
    """64 ASCII characters, the most MediaConvert takes; it forgets in a minute."""
    return hashlib.sha256(f"{file_id}/{attempt}".encode()).hexdigest()


def _input(uri: str) -> dict[str, Any]:
    """
    Any video.  The audio selector names no track, so MediaConvert takes the
    first if there is one, and an input without audio is converted all the same.
    """
    return {
        "FileInput": uri,
        "TimecodeSource": "ZEROBASED",
        "VideoSelector": {"Rotate": "AUTO"},
        "AudioSelectors": {"Audio Selector 1": {"DefaultSelection": "DEFAULT"}},
    }


def _hls_group(destination: str, heights: tuple[int, ...]) -> dict[str, Any]:
    return {
        "Name": "Apple HLS",
        "OutputGroupSettings": {
            "Type": "HLS_GROUP_SETTINGS",
            "HlsGroupSettings": {
                "Destination": destination,
                "SegmentLength": 6,
                "MinSegmentLength": 0,
                "SegmentControl": "SEGMENTED_FILES",
                "DirectoryStructure": "SINGLE_DIRECTORY",
                "ManifestDurationFormat": "FLOATING_POINT",
                "ManifestCompression": "NONE",
                "CodecSpecification": "RFC_6381",
                "StreamInfResolution": "INCLUDE",
                "OutputSelection": "MANIFESTS_AND_SEGMENTS",
            },
        },
        "Outputs": [_rendition(height) for height in heights],
    }


def _rendition(height: int) -> dict[str, Any]:
    width, max_bitrate, quality = _LADDER[height]
    return {
        "NameModifier": f"_{height}",
        "ContainerSettings": {"Container": "M3U8", "M3u8Settings": {}},
        "OutputSettings": {"HlsSettings": {}},
        "VideoDescription": {
            "Width": width,
            "Height": height,
            "ScalingBehavior": "FIT_NO_UPSCALE",
            "CodecSettings": {
                "Codec": "H_264",
                "H264Settings": {
                    "RateControlMode": "QVBR",
                    "QvbrSettings": {"QvbrQualityLevel": quality},
                    "MaxBitrate": max_bitrate,
                    "QualityTuningLevel": "SINGLE_PASS",
                    "SceneChangeDetect": "TRANSITION_DETECTION",
                    "GopSizeUnits": "SECONDS",
                    "GopSize": 2.0,
                    "CodecProfile": "MAIN",
                    "FramerateControl": "INITIALIZE_FROM_SOURCE",
                },
            },
        },
        "AudioDescriptions": [
            {
                "AudioSourceName": "Audio Selector 1",
                "CodecSettings": {
                    "Codec": "AAC",
                    "AacSettings": {
                        "Bitrate": 128_000,
                        "CodingMode": "CODING_MODE_2_0",
                        "SampleRate": 48_000,
                    },
                },
            }
        ],
    }
