"""
Claims: one S3 object per upload, so that however many invocations an upload
causes, one makes its job.

S3 sends an event twice now and then, minutes or hours apart, and AWS runs a
failed invocation again after one minute and after two more.  MediaConvert's
own request token forgets after one minute.  So the first invocation writes a
marker that only one can write (``If-None-Match: *``), and the marker keeps
what came of it: the job, or why there is none.  A marker without an outcome
that has grown old belongs to an invocation that died, and is taken over by
compare-and-swap (``If-Match``).

Source: S3 user guide, "Conditional writes".
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from botocore.exceptions import ClientError

from lambdas.errors import RetryLaterError
from lambdas.log import log
from lambdas.reports import ReportedError

_MAX_CLAIM_BYTES = 16 * 1024
_LOST_RACE = {
    HTTPStatus.PRECONDITION_FAILED,
    HTTPStatus.CONFLICT,  # S3 saw two conditional writes at once
    HTTPStatus.NOT_FOUND,  # somebody deleted the claim
}


@dataclass(frozen=True, slots=True)
class Claim:
    """
    What is known about the making of one job.

    Attributes:
        owner: Which invocation made it; AWS repeats the id when it retries.
        claimed_at_s: When, in seconds since the epoch.
        sequencer: Of the write the job is for.
        job_id: The job, once made.
        error: Why there will be no job, once that is sure.
        etag: Of the stored claim, for the next compare-and-swap.
        retaken: Whether an earlier holder may have made a job already.
    """

    file_id: str
    owner: str
    claimed_at_s: float
    sequencer: str
    job_id: str | None = None
    error: ReportedError | None = None
    etag: str = ""
    retaken: bool = False

    @property
    def settled(self) -> bool:
        """Whether there is nothing left to do but tell."""
        return self.job_id is not None or self.error is not None


@dataclass(frozen=True, slots=True)
class Claims:
    """
    The claims in one bucket.

    Attributes:
        s3: A boto3 client.
        claim_s: Age in seconds from which a claim without outcome is dead.
        clock: Now, in seconds since the epoch.
    """

    s3: Any
    bucket: str
    prefix: str
    claim_s: float
    clock: Callable[[], float] = time.time

    def take(self, file_id: str, *, owner: str, sequencer: str) -> Claim:
        """
        Claim an upload, or learn what came of it.

        Returns:
            A settled claim, or one that the caller now holds.

        Raises:
            RetryLaterError: Another invocation holds it and may be alive.
        """
        mine = Claim(file_id, owner, self.clock(), sequencer)
        try:
            return self._write(mine, IfNoneMatch="*")
        except ClientError as problem:
            if _status(problem) != HTTPStatus.PRECONDITION_FAILED:
                _raise_if_lost(problem, file_id)
                raise
        held = self._read(file_id)
        if held.settled:
            return held
        if held.owner != owner and self._alive(held):
            msg = (
                f"{file_id}: claimed by another invocation that may be at work; "
                f"it can be taken over {self.claim_s:g} s after it was claimed"
            )
            raise RetryLaterError(msg)
        log("warning", "claim.retaken", file_id=file_id, from_owner=held.owner)
        return self._swap(replace(mine, etag=held.etag, retaken=True))

    def settle(
        self,
        claim: Claim,
        *,
        job_id: str | None = None,
        error: ReportedError | None = None,
    ) -> Claim:
        """
        Keep what came of a claim.

        Raises:
            RetryLaterError: It was taken over meanwhile; whoever did so looks
                for our job before making another.
        """
        return self._swap(replace(claim, job_id=job_id, error=error))

    def _alive(self, held: Claim) -> bool:
        # A time from the future is nobody's clock, and must not hold for ever.
        return abs(self.clock() - held.claimed_at_s) < self.claim_s

    def _swap(self, claim: Claim) -> Claim:
        try:
            return self._write(claim, IfMatch=claim.etag)
        except ClientError as problem:
            _raise_if_lost(problem, claim.file_id)
            raise

    def _write(self, claim: Claim, **condition: str) -> Claim:
        content = {
            "file_id": claim.file_id,
            "owner": claim.owner,
            "claimed_at_s": claim.claimed_at_s,
            "sequencer": claim.sequencer,
            "job_id": claim.job_id,
            "error": claim.error,
        }
        answer = self.s3.put_object(
            Bucket=self.bucket,
            Key=self._key(claim.file_id),
            Body=json.dumps(content).encode(),
            ContentType="application/json",
            **condition,
        )
        return replace(claim, etag=answer["ETag"])

    def _read(self, file_id: str) -> Claim:
        try:
            answer = self.s3.get_object(Bucket=self.bucket, Key=self._key(file_id))
        except ClientError as problem:
            _raise_if_lost(problem, file_id)
            raise
        with answer["Body"] as body:
            text = body.read(_MAX_CLAIM_BYTES)
        return _parsed(file_id, text, answer["ETag"])

    def _key(self, file_id: str) -> str:
        return f"{self.prefix}{file_id}.json"


def _parsed(file_id: str, text: bytes, etag: str) -> Claim:
    """A claim nobody can read has no outcome and no age: it is taken over."""
    try:
        content = json.loads(text)
        return Claim(
            file_id=file_id,
            owner=str(content["owner"]),
            claimed_at_s=float(content["claimed_at_s"]),
            sequencer=str(content["sequencer"]),
            job_id=content["job_id"],
            error=content["error"],
            etag=etag,
        )
    except (ValueError, TypeError, KeyError):
        log("error", "claim.unreadable", file_id=file_id)
        return Claim(file_id, "", 0.0, "", etag=etag)


def _status(problem: ClientError) -> int:
    return int(problem.response["ResponseMetadata"]["HTTPStatusCode"])


def _raise_if_lost(problem: ClientError, file_id: str) -> None:
    """A lost race ends in another try; anything else is what it is."""
    if _status(problem) in _LOST_RACE:
        msg = f"{file_id}: another invocation changed its claim"
        raise RetryLaterError(msg) from problem
