"""
One job of the MediaConvert stand-in: its record, as the API and as EventBridge tell it.

Both have the real service's shapes, gaps included: the API's answer names no
output file, and no event says SUBMITTED.

Source: MediaConvert user guide, "EventBridge events"; botocore's ``Job``.
"""

import asyncio
import dataclasses
import random
import string
import time
import uuid
from fractions import Fraction
from typing import Any, Self

from local.ladder import Ladder
from local.probe import Media
from local.transcode import Output, Progress

FINISHED = frozenset({"COMPLETE", "CANCELED", "ERROR"})

_PHASES = ("PROBING", "TRANSCODING", "UPLOADING")
_CODECS = {
    "h264": "H_264",
    "hevc": "H_265",
    "mpeg2video": "MPEG2",
    "mp3float": "MP3",
}
_ECHOED = (
    "clientRequestToken",
    "hopDestinations",
    "jobTemplate",
    "simulateReservedQueue",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """The account and region that ARNs name."""

    account: str
    region: str

    def arn(self, resource: str) -> str:
        """``queues/Default`` and the like; one that is an ARN already stays."""
        if resource.startswith("arn:"):
            return resource
        return f"arn:aws:mediaconvert:{self.region}:{self.account}:{resource}"


@dataclasses.dataclass(kw_only=True, eq=False)
class Job:
    """
    Attributes:
        number: Growing; the order of creation.
        request: CreateJob's JSON as it came.
        task: Set while it is converted.
        submitted_s: Epoch; likewise started and finished, None before.
    """

    number: int
    id: str
    place: Place
    request: dict[str, Any]
    ladder: Ladder
    submitted_s: float
    status: str = "SUBMITTED"
    started_s: float | None = None
    finished_s: float | None = None
    progress: Progress = dataclasses.field(default_factory=Progress)
    outputs: list[Output] = dataclasses.field(default_factory=list)
    error: tuple[int, str] | None = None
    task: "asyncio.Task[None] | None" = None

    @classmethod
    def create(
        cls,
        number: int,
        request: dict[str, Any],
        ladder: Ladder,
        place: Place,
        now_s: float,
    ) -> Self:
        """A job that waits in its queue."""
        letters = string.ascii_lowercase + string.digits
        suffix = "".join(random.choices(letters, k=6))  # noqa: S311 - a name, no secret
        return cls(
            number=number,
            id=f"{int(now_s * 1000)}-{suffix}",
            place=place,
            request=request,
            ladder=ladder,
            submitted_s=now_s,
        )

    @property
    def arn(self) -> str:
        """Its ARN."""
        return self.place.arn(f"jobs/{self.id}")

    @property
    def queue(self) -> str:
        """The ARN of its queue."""
        name = self.request.get("queue") or "Default"
        return self.place.arn(name if name.startswith("arn:") else f"queues/{name}")

    @property
    def priority(self) -> int:
        """-50 to 50; higher goes first."""
        return int(self.request.get("priority", 0))

    @property
    def is_finished(self) -> bool:
        """Whether nothing can change any more."""
        return self.status in FINISHED

    def document(self) -> dict[str, Any]:
        """The ``Job`` of the API's answers."""
        result = {name: self.request[name] for name in _ECHOED if name in self.request}
        result |= {
            "accelerationSettings": {"mode": "DISABLED"},
            "accelerationStatus": "NOT_APPLICABLE",
            "arn": self.arn,
            "billingTagsSource": self.request.get("billingTagsSource", "JOB"),
            "createdAt": int(self.submitted_s),
            "id": self.id,
            "messages": {"info": [], "warning": []},
            "priority": self.priority,
            "queue": self.queue,
            "retryCount": 0,
            "role": self.request["role"],
            "settings": self.request["settings"],
            "status": self.status,
            "statusUpdateInterval": self.request.get(
                "statusUpdateInterval", "SECONDS_60"
            ),
            "timing": self._timing(),
            "userMetadata": self.request.get("userMetadata", {}),
            "warnings": [],
        }
        return result | self._state()

    def _timing(self) -> dict[str, int]:
        times = {
            "submitTime": self.submitted_s,
            "startTime": self.started_s,
            "finishTime": self.finished_s,
        }
        return {name: int(at_s) for name, at_s in times.items() if at_s is not None}

    def _state(self) -> dict[str, Any]:
        result: dict[str, Any] = {}
        if self.started_s is not None:
            result["currentPhase"] = self.progress.phase
            if self.progress.percent is not None:
                result["jobPercentComplete"] = self.progress.percent
        if self.error:
            result["errorCode"], result["errorMessage"] = self.error
        if self.outputs:
            details = [_size_details(output) for output in self.outputs]
            result["outputGroupDetails"] = [{"outputDetails": details}]
        return result

    def event(self, status: str, now_s: float, **extra: Any) -> dict[str, Any]:
        """The EventBridge event that says so."""
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": "MediaConvert Job State Change",
            "source": "aws.mediaconvert",
            "account": self.place.account,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s)),
            "region": self.place.region,
            "resources": [self.arn],
            "detail": {
                "timestamp": int(now_s * 1000),
                "accountId": self.place.account,
                "queue": self.queue,
                "jobId": self.id,
                "status": status,
                "userMetadata": self.request.get("userMetadata", {}),
                **extra,
            },
        }

    def status_update(self) -> dict[str, Any]:
        """The extra members of STATUS_UPDATE; no percentage while unknown."""
        now = self.progress
        job: dict[str, Any] = {"phaseProgress": _phases(now)}
        if now.percent is not None:
            job["jobPercentComplete"] = now.percent
        job |= {"currentPhase": now.phase, "retryCount": 0}
        return {"framesDecoded": now.frames, "jobProgress": job}

    def input_information(self, media: Media) -> dict[str, Any]:
        """The extra members of INPUT_INFORMATION."""
        details = {
            "id": 1,
            "uri": str(self.ladder.source),
            "audio": _audio_details(media),
            "video": [_video_details(media)],
        }
        return {"inputDetails": [details]}

    def completion(self) -> dict[str, Any]:
        """The extra members of COMPLETE."""
        group = {
            "outputDetails": [
                {
                    "outputFilePaths": [str(output.playlist)],
                    **_size_details(output, averageBitrate=output.average_bps),
                }
                for output in self.outputs
            ],
            "playlistFilePaths": [str(self.ladder.master)],
            "type": "HLS_GROUP",
        }
        return {
            "warnings": [],
            "outputGroupDetails": [group],
            "paddingInserted": 0,
            "blackVideoDetected": 0,
        }


def _size_details(output: Output, **more: int) -> dict[str, Any]:
    size = {"widthInPx": output.width, "heightInPx": output.height, **more}
    return {"durationInMs": output.duration_ms, "videoDetails": size}


def _phases(now: Progress) -> dict[str, dict[str, Any]]:
    percents = (now.probing, now.transcoding, now.uploading)
    current = _PHASES.index(now.phase)
    result = {}
    for number, (phase, percent) in enumerate(zip(_PHASES, percents, strict=True)):
        status = (
            "COMPLETE"
            if number < current
            else "PROGRESSING"
            if number == current
            else "PENDING"
        )
        result[phase] = {"status": status, "percentComplete": percent or 0}
    return result


def _codec(name: str) -> str:
    return _CODECS.get(name, name.upper())


def _audio_details(media: Media) -> list[dict[str, Any]]:
    if media.audio_index is None:
        return []
    return [
        {
            "channels": media.audio_channels,
            "codec": _codec(media.audio_codec),
            "language": media.audio_language.upper(),
            "sampleRate": media.audio_rate_hz,
            "streamId": media.audio_index + 1,
        }
    ]


def _video_details(media: Media) -> dict[str, Any]:
    aspect = Fraction(media.pixel_aspect)
    colors = next((c for c in ("422", "444") if c in media.pixel_format), "420")
    return {
        "bitDepth": media.bit_depth,
        "codec": _codec(media.video_codec),
        "colorFormat": f"YUV_{colors}",
        "fourCC": media.four_cc,
        "frameRate": round(float(Fraction(media.frame_rate)), 3),
        "height": media.height,
        "interlaceMode": "INTERLACED" if media.is_interlaced else "PROGRESSIVE",
        "sar": f"{aspect.numerator}:{aspect.denominator}",
        "standard": "UNSPECIFIED",
        "streamId": media.video_index + 1,
        "width": media.width,
    }
