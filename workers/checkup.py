"""
Is everything there that a gateway leans on, and does it do what it should?

Each check is one question to one place, in its own time limit, and says what to do
where the answer is not as it should be.  Nothing is written but a notification that
nobody but us understands.
"""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from functools import partial
from typing import Any

import asyncpg
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError
from msgspec import Struct

from gateway.config import PREFIX, Config
from gateway.errors import UnavailableError
from gateway.protocol import notification, relayed
from gateway.store.pool import AWAY, POOLED, PRIMARY, Pool, why
from workers.jobs import MISSING
from workers.migrate import applied, migrations

LIMIT_S = 10.0
ECHO_LIMIT_S = 3.0
BEAT_LIMIT_S = 6.0
SESSIONS = 4
ROUNDS = 10
MAX_SKEW_S = 30.0
"""Signatures are good for five minutes, tokens for one more than they say."""

_DATABASE = f"{PREFIX}DATABASE_URL"
_LISTEN = f"{PREFIX}LISTEN_DATABASE_URL"
_REDIS = f"{PREFIX}REDIS_URL"
_BUCKET = f"{PREFIX}BUCKET"
PROBE = "reelready-doctor"
"""What is looked for, and the name of what is registered."""

_NO_JOB = "1000000000000-000000"
"""Whoever may ask is told that there is none; MediaConvert API, "Jobs jobId"."""

_DENIED = {"AccessDenied", "AccessDeniedException", "ForbiddenException"}


class Verdict(StrEnum):
    """How it is."""

    FINE = "fine"
    DOUBTFUL = "doubtful"
    WRONG = "wrong"
    SKIPPED = "skipped"


class Finding(Struct, frozen=True):
    """
    What one check has found.

    Attributes:
        said: What was seen, in one line.
        remedy: What to do about it; empty where nothing is to be done.
    """

    check: str
    verdict: Verdict
    said: str
    remedy: str = ""


def fine(check: str, said: str) -> Finding:
    """Say that it is as it should be."""
    return Finding(check, Verdict.FINE, said)


def doubtful(check: str, said: str, remedy: str) -> Finding:
    """Say what works and may hurt later."""
    return Finding(check, Verdict.DOUBTFUL, said, remedy)


def wrong(check: str, said: str, remedy: str) -> Finding:
    """Say what does not work."""
    return Finding(check, Verdict.WRONG, said, remedy)


def skewed(check: str, ahead_s: float, whose: str) -> Finding:
    """Judge how far our clock is from another one."""
    if abs(ahead_s) <= MAX_SKEW_S:
        return fine(check, f"within {MAX_SKEW_S:.0f} s of {whose}")
    way = "ahead of" if ahead_s > 0 else "behind"
    said = f"{abs(ahead_s):.0f} s {way} {whose}"
    return wrong(check, said, "set one of the clocks: signatures and tokens have times")


def cause(error: BaseException) -> str:
    """Say an error in one line."""
    return " ".join(str(error).split()) or type(error).__name__


async def everything_behind(config: Config) -> AsyncIterator[Finding]:
    """Check what stands behind the gateway, one place after the other."""
    for check in (_database, _doorbell, _relay):
        async for finding in _in_time(check, config):
            yield finding
    async for finding in aws_of_worker(config):
        yield finding


async def aws_of_worker(config: Config) -> AsyncIterator[Finding]:
    """Check what a worker asks of AWS."""
    for check in (_storage, _conversions, _converter):
        async for finding in _in_time(check, config):
            yield finding


async def _in_time(
    check: Callable[[Config], Awaitable[list[Finding]]], config: Config
) -> AsyncIterator[Finding]:
    name = check.__name__.removeprefix("_")
    try:
        async with asyncio.timeout(LIMIT_S):
            for finding in await check(config):
                yield finding
    except TimeoutError:
        yield wrong(
            name, f"no answer in {LIMIT_S:.0f} s", "look at the network between"
        )


async def _database(config: Config) -> list[Finding]:
    check = "database"
    try:
        session = await _primary(config.database_url)
    except asyncpg.TargetServerAttributeNotMatched:
        return [_of_standby(check, _DATABASE)]
    except (*AWAY, ValueError) as error:
        remedy = f"{_DATABASE}: is the server up, and may this machine connect to it?"
        return [wrong(check, cause(error), remedy)]
    try:
        asked_s = time.time()
        row = await session.fetchrow(
            "select clock_timestamp() as now, "
            "current_setting('server_version') as version, "
            "current_setting('fsync') as fsync"
        )
        there = (await applied(session)).keys()
    except AWAY as error:
        remedy = f"{_DATABASE}: may its user read the tables of `reelready migrate`?"
        return [wrong(check, cause(error), remedy)]
    finally:
        session.terminate()
    if row is None:
        return [wrong(check, "says nothing", "")]
    findings = [fine(check, f"PostgreSQL {row['version']}")]
    known = {one.name for one in migrations()}
    if missing := sorted(known - there):
        said = f"{len(missing)} migrations are missing, the first is {missing[0]}"
        findings.append(wrong("schema", said, "reelready migrate"))
    elif newer := sorted(there - known):
        said = f"it is newer than this version: it has {newer[0]}"
        findings.append(doubtful("schema", said, "install the newer version here, too"))
    else:
        findings.append(fine("schema", f"{len(known)} migrations"))
    if row["fsync"] == "off":
        remedy = "set it to on: what was acknowledged can be lost in a crash"
        findings.append(doubtful("durability", "fsync = off", remedy))
    ahead_s = (asked_s + time.time()) / 2 - row["now"].timestamp()
    findings.append(skewed("clock", ahead_s, "Postgres"))
    return [*findings, await _statements(config)]


async def _statements(config: Config) -> Finding:
    """
    Use prepared statements as the gateway does: by several sessions at a time.

    A pooler that keeps none of them serves a session alone very well.
    """
    check = "statements"
    try:
        async with asyncpg.create_pool(
            config.database_url, min_size=SESSIONS, max_size=SESSIONS
        ) as pool:
            for _ in range(ROUNDS):
                # Long enough for each to be led to a server of its own.
                await asyncio.gather(
                    *(
                        pool.fetchval("select $1::int from pg_sleep(0.01)", one)
                        for one in range(SESSIONS)
                    )
                )
    except POOLED as error:
        return wrong(check, str(error).partition("\n")[0], why(error))
    except AWAY as error:
        remedy = f"{_DATABASE}: let it have {SESSIONS} sessions at a time, and more"
        return wrong(check, cause(error), remedy)
    return fine(check, f"kept by {SESSIONS} sessions at a time")


async def _doorbell(config: Config) -> list[Finding]:
    check, nonce = "doorbell", f"{PROBE}-{secrets.token_hex(8)}"
    heard = asyncio.Event()

    def on_notification(
        _session: object, _pid: int, _channel: str, said: object
    ) -> None:
        if said == notification.echo(nonce):
            heard.set()

    setting = config.listen_setting
    try:
        ear = await _primary(config.listen_database_url)
    except asyncpg.TargetServerAttributeNotMatched:
        return [_of_standby(check, setting)]
    except (*AWAY, ValueError) as error:
        return [wrong(check, cause(error), f"{setting}: does it name the database?")]
    try:
        await ear.add_listener(notification.CHANNEL, on_notification)
        hand = await _primary(config.database_url)
        try:
            rung_s = time.perf_counter()
            await hand.execute(
                "select pg_notify($1, $2)",
                notification.CHANNEL,
                notification.echo(nonce),
            )
            async with asyncio.timeout(ECHO_LIMIT_S):
                await heard.wait()
            took_s = time.perf_counter() - rung_s
            used = await hand.fetchval("select pg_notification_queue_usage()")
        finally:
            hand.terminate()
    except TimeoutError:
        remedy = (
            f"{_LISTEN}: name Postgres itself, not a pooler in transaction mode, and the"
            f" same database as {_DATABASE}"
        )
        return [wrong(check, "a notification does not come back", remedy)]
    except asyncpg.TargetServerAttributeNotMatched:
        return [_of_standby(check, _DATABASE)]
    except AWAY as error:
        return [wrong(check, cause(error), f"{setting}: is the server up?")]
    finally:
        ear.terminate()
    findings = [fine(check, f"a notification came back after {took_s * 1000:.0f} ms")]
    if used >= 0.1:  # noqa: PLR2004 - as the listener warns
        said = f"the queue of notifications is {used * 100:.0f} % full"
        remedy = "end the session that LISTENs and stays in a transaction"
        findings.append(doubtful("notification queue", said, remedy))
    return findings


async def _primary(dsn: str) -> "asyncpg.Connection[asyncpg.Record]":
    # A pooler would lead the preparation and the use to two servers.
    return await asyncpg.connect(
        dsn, statement_cache_size=0, target_session_attrs=PRIMARY
    )


def _of_standby(check: str, setting: str) -> Finding:
    said = f"{setting} names a standby, where nothing can be written or listened to"
    return wrong(check, said, f"{setting}: name the primary")


async def _relay(config: Config) -> list[Finding]:
    check = "relay"
    if not config.redis_url:
        return [Finding(check, Verdict.SKIPPED, f"{_REDIS} is not set")]
    from redis.exceptions import RedisError  # noqa: PLC0415 - as few need it

    from workers.redis_listener import connect  # noqa: PLC0415

    is_another = False
    try:
        async with (
            connect(config.redis_url) as client,
            client.pubsub() as session,
            Pool(config.database_url, max_connections=1) as pool,
        ):
            await session.subscribe(relayed.BEATS)
            async with asyncio.timeout(BEAT_LIMIT_S):
                while True:
                    heard = await session.get_message(timeout=None)
                    if heard is None or heard["type"] != "message":
                        continue
                    if relayed.beat_of(heard["data"]) == await pool.identity():
                        return [fine(check, "a relay of this database beats")]
                    is_another = True
    except UnavailableError as error:
        said = f"a relay beats, nobody knows of which database: {why(error)}"
        return [wrong(check, said, f"{_DATABASE}: what is said of it above")]
    except TimeoutError:
        if is_another:
            said = f"only a relay of another database beats at {_REDIS}"
            remedy = f"run `reelready relay` with this {_DATABASE}, or correct it"
            return [wrong(check, said, remedy)]
        remedy = "run `reelready relay`, with the same settings as the gateways"
        return [wrong(check, f"no relay beats at {_REDIS}", remedy)]
    except (RedisError, OSError) as error:
        remedy = f"{_REDIS}: is the server up, and may this machine connect to it?"
        return [wrong(check, cause(error), remedy)]


async def _storage(config: Config) -> list[Finding]:
    check, bucket = "storage", config.bucket
    prefixes = dict.fromkeys((config.upload_prefix, config.output_prefix))
    try:
        async with _client("s3") as s3:
            looked = await _metadata(s3.head_bucket(Bucket=bucket))
            status = looked["HTTPStatusCode"]
            objects = {
                prefix: await _metadata(
                    s3.head_object(Bucket=bucket, Key=f"{prefix}{PROBE}")
                )
                for prefix in (prefixes if status == 200 else ())  # noqa: PLR2004 - OK
            }
    except (BotoCoreError, OSError, ValueError) as error:
        remedy = "AWS_REGION and credentials: what `aws s3 ls` needs on this machine"
        return [wrong(check, cause(error), remedy)]
    if status == 404:  # noqa: PLR2004 - Not Found
        remedy = f"{_BUCKET} and AWS_REGION: is it the bucket's name?"
        return [wrong(check, f"there is no bucket {bucket}", remedy)]
    findings = [
        wrong(
            check,
            f"{bucket}/{prefix} may not be looked into ({said['HTTPStatusCode']})",
            f"{_BUCKET}: allow s3:GetObject on {bucket}/{prefix}*",
        )
        for prefix, said in objects.items()
        if said["HTTPStatusCode"] not in {200, 404}
    ] or [_of_bucket(check, bucket, status)]
    with suppress(ValueError, TypeError):
        date = looked.get("HTTPHeaders", {}).get("date", "")
        ahead = datetime.now(UTC) - parsedate_to_datetime(date)
        findings.append(skewed("clock", ahead.total_seconds(), "S3"))
    return findings


async def _metadata(answer: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """What S3 says of an answer, or of a refusal."""
    try:
        said: dict[str, Any] = (await answer)["ResponseMetadata"]
    except ClientError as error:
        said = dict(error.response["ResponseMetadata"])
    return said


def _client(service: str) -> Any:
    session = get_session()
    # botocore itself only knows AWS_DEFAULT_REGION.
    region = os.environ.get("AWS_REGION") or session.get_config_variable("region")
    config = AioConfig(connect_timeout=3, read_timeout=5, retries={"max_attempts": 0})
    return session.create_client(service, region_name=region, config=config)


def _of_bucket(check: str, bucket: str, status: int) -> Finding:
    if status == 200:  # noqa: PLR2004 - OK
        return fine(check, f"objects of {bucket} can be looked for")
    if status == 403:  # noqa: PLR2004 - Forbidden
        remedy = (
            f"{_BUCKET}: allow s3:ListBucket on {bucket} and s3:GetObject on its"
            " objects: without both, an upload that is missing looks like one that is forbidden"
        )
        return wrong(check, f"{bucket} may not be looked into", remedy)
    if status in {301, 307, 400}:
        return wrong(
            check, f"{bucket} is in another region", "set AWS_REGION to its own"
        )
    return wrong(check, f"{bucket} answers {status}", f"{_BUCKET}: look at the bucket")


async def _conversions(_: Config) -> list[Finding]:
    check = "conversions"
    denied: dict[str, str] = {}
    try:
        async with _client("mediaconvert") as mediaconvert:
            for action, question in {
                "GetJob": partial(mediaconvert.get_job, Id=_NO_JOB),
                "ListJobs": partial(mediaconvert.list_jobs, MaxResults=1),
                "SearchJobs": partial(mediaconvert.search_jobs, MaxResults=1),
            }.items():
                try:
                    await question()
                except ClientError as error:
                    code = error.response["Error"]["Code"]
                    if code in _DENIED:
                        denied[f"mediaconvert:{action}"] = cause(error)
                    elif code not in MISSING:
                        raise
    except (BotoCoreError, ClientError, OSError, ValueError) as error:
        return [wrong(check, cause(error), "AWS_REGION and credentials")]
    if denied:
        said = next(iter(denied.values()))
        remedy = f"AWS credentials: allow {' and '.join(denied)}"
        return [wrong(check, said, remedy)]
    return [fine(check, "MediaConvert can be asked about jobs")]


async def _converter(config: Config) -> list[Finding]:
    check, name = "converter", config.converter_function
    if not name:
        said = (
            f"{PREFIX}CONVERTER_FUNCTION is not set: a lost upload event ends the file"
        )
        return [Finding(check, Verdict.SKIPPED, said)]
    try:
        async with _client("lambda") as functions:
            await functions.invoke(FunctionName=name, InvocationType="DryRun")
    except ClientError as error:
        remedy = (
            f"{PREFIX}CONVERTER_FUNCTION: is it there, and is lambda:InvokeFunction on"
            f" {name} allowed?"
        )
        return [wrong(check, cause(error), remedy)]
    except (BotoCoreError, OSError, ValueError) as error:
        return [wrong(check, cause(error), "AWS_REGION and credentials")]
    return [fine(check, f"{name} may be invoked again")]
