"""
HLSFileManifestSaver: what MediaConvert says of a job becomes a report, and the
end of a job becomes a manifest.

The one rule: every status ends in exactly one post or in a log line, never in
an error of our own making; only the gateway can make an invocation fail.
Events come late, twice and in any order, and that is the gateway's business:
its state machine sorts them.

Source: docs/protocol.md; MediaConvert user guide,
"Error codes".
"""

import functools
import os
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from lambdas import clients
from lambdas.errors import NoPlaylistError, PlaylistError
from lambdas.gateway import Gateway
from lambdas.job_events import JobEvent, job_event
from lambdas.job_reports import (
    failure_report,
    no_playlist_report,
    progress_report,
)
from lambdas.log import log
from lambdas.manifest import (
    Manifest,
    derived_master,
    manifest_from_event,
    named_master,
    with_variants,
)
from lambdas.playlist import MAX_PLAYLIST_BYTES, parse_master
from lambdas.reports import Report
from lambdas.settings import GatewaySettings, output_prefix

SENDER = "hls_file_manifest_saver"


def handler(event: object, context: object) -> dict[str, str]:  # noqa: ARG001 - AWS passes it
    """
    Pass on one ``MediaConvert Job State Change``.

    Raises:
        GatewayRefusedError, GatewayUnavailableError: The gateway did not take
            it; AWS tries again and then keeps the event.
        UnknownEventError: It is no such event.
    """
    job = job_event(event)
    if job is None:
        return {"status": "ignored"}
    _saver().save(job)
    return {"status": job.status}


@functools.cache
def _saver() -> "Saver":
    return Saver(
        gateway=Gateway(GatewaySettings.from_env(os.environ)),
        output_prefix=output_prefix(os.environ),
        s3=clients.s3(),
    )


@dataclass(frozen=True, slots=True)
class Saver:
    """
    Tells the gateway what became of jobs.

    Attributes:
        output_prefix: Where our jobs write, for an event that does not say.
        s3: A boto3 client.
    """

    gateway: Gateway
    output_prefix: str
    s3: Any

    def save(self, job: JobEvent) -> None:
        """
        Pass on one event of a job of ours.

        Raises:
            GatewayRefusedError, GatewayUnavailableError: To be tried again.
        """
        match job.status:
            case "PROGRESSING":
                self._report(job, {"type": "converting"})
            case "INPUT_INFORMATION":
                self._report(job, {"type": "progress", "phase": "probing"})
            case "STATUS_UPDATE":
                self._report(job, _progress(job))
            case "COMPLETE":
                self._complete(job)
            case "ERROR":
                self._report(job, _failure(job))
            case "CANCELED":
                self._report(job, {"type": "canceled"})
            case status:  # NEW_WARNING, QUEUE_HOP, and what AWS adds one day
                log("info", "job.status_ignored", status=status, job_id=job.job_id)

    def _complete(self, job: JobEvent) -> None:
        try:
            manifest = self._manifest(job)
        except NoPlaylistError as problem:
            log("error", "job.without_playlist", job_id=job.job_id, reason=problem)
            self._report(job, no_playlist_report())
        else:
            content = {**manifest, "sender": SENDER}
            self.gateway.manifest(job.file_id, job.cause, content)

    def _manifest(self, job: JobEvent) -> Manifest:
        named = named_master(job.detail)
        master = named or derived_master(
            job.detail, output_prefix=self.output_prefix, file_id=job.file_id
        )
        manifest = manifest_from_event(
            job.detail, master_playlist=master, occurred_at=job.occurred_at
        )
        try:
            return with_variants(manifest, parse_master(self._read(master)))
        except (BotoCoreError, ClientError, PlaylistError) as problem:
            if named is None and _says_missing(problem):
                msg = f"{master} was never written"
                raise NoPlaylistError(msg) from problem
            log("warning", "playlist.unread", playlist=master, reason=problem)
            return manifest

    def _read(self, uri: str) -> str:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        answer = self.s3.get_object(Bucket=bucket, Key=key)
        with answer["Body"] as body:
            content: bytes = body.read(MAX_PLAYLIST_BYTES + 1)
        return content.decode(errors="replace")

    def _report(self, job: JobEvent, news: Report) -> None:
        report: Report = {
            **news,
            "job_id": job.job_id,
            "attempt": job.attempt,
            "occurred_at": job.occurred_at,
            "sender": SENDER,
        }
        self.gateway.report(job.file_id, job.cause, report)


def _progress(job: JobEvent) -> Report:
    progress = job.detail.get("jobProgress")
    if not isinstance(progress, dict):
        progress = {}
    return progress_report(
        progress.get("currentPhase"), progress.get("jobPercentComplete")
    )


def _failure(job: JobEvent) -> Report:
    code, message = job.detail.get("errorCode"), job.detail.get("errorMessage")
    log("warning", "job.failed", job_id=job.job_id, aws_code=code, reason=message)
    return failure_report(code, message)


def _says_missing(problem: Exception) -> bool:
    """S3 says so only to those who may list the bucket; others get a 403."""
    return isinstance(problem, ClientError) and problem.response["Error"]["Code"] in {
        "NoSuchKey",
        "NoSuchBucket",
    }
