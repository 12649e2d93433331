"""
VideoMediaConverter: an object under ``video/origin/`` becomes one job.

For each upload, in this order, so that a failure anywhere leaves nothing half
done and the next try goes on where this one stopped:

1.  Name the file: the key is ``<UPLOAD_PREFIX><file id><.ext>``.  Anything else
    in the bucket is not ours.
2.  Check the object's tag ``file_id``.  No tag is tolerated.  A tag that names
    another file is not: **no job, and no report about either file**.  Whoever
    could write that object must not be able to end somebody's file, neither the
    one in the key nor the one in the tag, by a terminal report we sign.  The
    log says ``upload.tag_mismatch``; nothing is claimed, so the right object
    can still come; if it never does, the file ends by its deadline.
3.  Report ``uploaded``.  A gateway that is down or does not know the file stops
    it here: no job is paid for that nobody can hear of.  So does the answer
    ``stale``: the file has a job already or has ended, by its deadline perhaps.
    A file that still waits for its job is never answered so.  Each try asks
    under a name of its own, since a post that comes again is answered as it was
    the first time, and an event from the dead-letter queue is days old.
4.  Claim the upload (`lambdas.claims`), make the job, keep its id in the claim.
    An empty object and a job that is refused for good are kept there as well,
    as the reason why there is no job.
5.  Report ``converting`` with the job, or ``failed`` with the reason.

A later event for the same file, a second write of the key included, is stale,
or finds the claim settled and only tells again what came of it.

Source: docs/protocol.md.
"""

import functools
import os
import re
import uuid
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from lambdas import clients
from lambdas.claims import Claim, Claims
from lambdas.errors import JobRefusedError, LambdaError
from lambdas.gateway import Gateway
from lambdas.jobs import create_job, find_job, job_request
from lambdas.log import log
from lambdas.reports import Report, is_file_id, reported_error
from lambdas.settings import ConverterSettings, GatewaySettings
from lambdas.uploads import Upload, uploads_in

ATTEMPT = 1
"""An upload is the first attempt; a later one is not made by an upload."""

SENDER = "video_media_converter"

_EMPTY_UPLOAD = reported_error("empty_upload", "The uploaded file is empty.")


def handler(event: object, context: object) -> dict[str, int]:
    """
    Convert every upload an event tells of.

    Each is tried, whatever became of the one before.

    Raises:
        LambdaError, BotoCoreError, ClientError: The first of what went wrong;
            AWS runs the invocation again, which repeats nothing that is done.
    """
    uploads, unknown = uploads_in(event)
    problems: list[Exception] = [*unknown]
    converter = _converter()
    # AWS retries an invocation under the same id, so it knows its own claim.
    invocation = getattr(context, "aws_request_id", None) or str(uuid.uuid4())
    for upload in uploads:
        try:
            converter.convert(upload, invocation)
        except (LambdaError, BotoCoreError, ClientError) as problem:
            problems.append(problem)
    for each in problems:
        log("error", "upload.not_done", error=type(each).__name__, reason=each)
    if problems:
        raise problems[0]
    return {"uploads": len(uploads)}


@functools.cache
def _converter() -> "Converter":
    return Converter(
        settings=ConverterSettings.from_env(os.environ),
        gateway=Gateway(GatewaySettings.from_env(os.environ)),
        s3=clients.s3(),
        mediaconvert=clients.mediaconvert(),
    )


@dataclass(frozen=True, slots=True)
class Converter:
    """
    Turns uploads into jobs.

    Attributes:
        s3: A boto3 client.
        mediaconvert: A boto3 client.
    """

    settings: ConverterSettings
    gateway: Gateway
    s3: Any
    mediaconvert: Any

    def convert(self, upload: Upload, invocation: str) -> None:
        """
        See to it that an upload has its one job, and that the gateway knows.

        Args:
            invocation: The same when AWS tries again.

        Raises:
            LambdaError, BotoCoreError, ClientError: To be tried again.
        """
        file_id = self._file_id(upload)
        if file_id is None or not self._tag_agrees(upload, file_id):
            return
        if upload.size_bytes != 0:
            cause = f"{upload.cause}-{uuid.uuid4().hex}"
            outcome = self._report(upload, file_id, cause, {"type": "uploaded"})
            if outcome == "stale":
                log("warning", "upload.stale", file_id=file_id, key=upload.key)
                return
        claim = self._settled_claim(upload, file_id, invocation)
        if claim.sequencer != upload.sequencer:
            log("warning", "upload.written_again", file_id=file_id, key=upload.key)
        self._report(upload, file_id, upload.cause, _outcome(claim))

    def _file_id(self, upload: Upload) -> str | None:
        prefix = re.escape(self.settings.upload_prefix)
        match = re.fullmatch(rf"{prefix}([^./]+)(?:\.[^/]*)?", upload.key)
        if match is None or not is_file_id(match[1]):
            log("warning", "upload.not_ours", bucket=upload.bucket, key=upload.key)
            return None
        return match[1]

    def _tag_agrees(self, upload: Upload, file_id: str) -> bool:
        try:
            answer = self.s3.get_object_tagging(Bucket=upload.bucket, Key=upload.key)
        except ClientError as problem:
            if problem.response["Error"]["Code"] != "NoSuchKey":
                raise
            log("warning", "upload.deleted", file_id=file_id, key=upload.key)
            return False
        tags = {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}
        if "file_id" not in tags:
            log("warning", "upload.untagged", file_id=file_id, key=upload.key)
            return True
        if tags["file_id"] != file_id:
            tagged = tags["file_id"]
            log("error", "upload.tag_mismatch", file_id=file_id, tag=tagged)
            return False
        return True

    def _settled_claim(self, upload: Upload, file_id: str, invocation: str) -> Claim:
        claims = Claims(
            self.s3, upload.bucket, self.settings.claim_prefix, self.settings.claim_s
        )
        claim = claims.take(file_id, owner=invocation, sequencer=upload.sequencer)
        if claim.settled:
            return claim
        if upload.size_bytes == 0:
            return claims.settle(claim, error=_EMPTY_UPLOAD)
        try:
            job_id = self._job(upload, claim)
        except JobRefusedError as problem:
            log("error", "job.refused", file_id=file_id, reason=problem)
            message = f"MediaConvert refused the job: {problem}"
            error = reported_error("job_refused", message)
            return claims.settle(claim, error=error)
        return claims.settle(claim, job_id=job_id)

    def _job(self, upload: Upload, claim: Claim) -> str:
        file_id = claim.file_id
        if claim.retaken:
            made = find_job(self.mediaconvert, upload, file_id, ATTEMPT)
            if made is not None:
                log("warning", "job.adopted", file_id=file_id, job_id=made)
                return made
        request = job_request(upload, file_id, ATTEMPT, self.settings)
        job_id = create_job(self.mediaconvert, request)
        log("info", "job.created", file_id=file_id, job_id=job_id)
        return job_id

    def _report(self, upload: Upload, file_id: str, cause: str, news: Report) -> str:
        report: Report = {
            **news,
            "attempt": ATTEMPT,
            "occurred_at": upload.occurred_at,
            "sender": SENDER,
        }
        return self.gateway.report(file_id, cause, report)


def _outcome(claim: Claim) -> Report:
    if claim.job_id is not None:
        return {"type": "converting", "job_id": claim.job_id}
    assert claim.error is not None  # noqa: S101 - a settled claim has one or the other
    return {"type": "failed", "error": claim.error}
