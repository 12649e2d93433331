"""
A stack of the template on the stand-ins: its bucket, rules, functions and roles.

The functions run from their own zips with the environment that the template gives
them, the rules decide who hears of what, and every signed request is noted as a
call of whose key signed it.  The rule: nothing is refused here, so that one run
shows everything that would be; `tests.stack.refused` says what.  Only with
`Account.grants` set, whatever they do not allow is.

Source: Service Authorization Reference for S3, MediaConvert and Lambda, for which
action an operation needs.
"""

import contextlib
import functools
import io
import re
import zipfile
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

import aiobotocore.session
import botocore.session
from aiohttp import web
from aiohttp.test_utils import TestServer
from botocore.model import ServiceModel

from deploy.aws.zips import zipped
from local.events import EventRouter
from local.lambda_api import lambda_api
from local.lambda_runtime import LambdaFunction
from local.mediaconvert import MediaConvert
from local.s3 import S3
from tests.stack import ACCOUNT, REGION, Call, Grant, Stack, refused

GATEWAY = "GatewayPolicy"
CONVERT = "MediaConvertRole"
DEPLOYER = "deployer"
"""Who made the stack; nobody asks what they may."""

_SECRET = "made-up"
_BY_TLS = ("aws:securetransport", "true")
_NOT_FOUND = 404
_KEY_ID = re.compile(r"Credential=(\w+)/")
_S3_ACTIONS = {
    ("GET", "tagging"): "s3:GetObjectTagging",
    ("GET", ""): "s3:GetObject",
    ("HEAD", ""): "s3:GetObject",
    ("PUT", ""): "s3:PutObject",
}
"""Of an object; an operation that is not here must be added, not ignored."""


class Account:
    """
    A stack that runs; an async context manager.

    Args:
        work_dir: Objects, conversions and unpacked zips.

    Attributes:
        stack: What it is made of.
        calls: What everybody did so far.
        functions: By logical id.
        statuses: Of every job event that a function was given.
        grants: Whatever they do not allow is answered 403, after it was done; None:
            everything is allowed.
    """

    def __init__(self, stack: Stack, work_dir: Path) -> None:
        self.stack = stack
        self.bucket = stack.outputs["Bucket"]
        self.calls: list[Call] = []
        self.functions: dict[str, LambdaFunction] = {}
        self.statuses: list[str] = []
        self.grants: list[Grant] | None = None
        self._work_dir = work_dir
        self._urls: dict[str, str] = {}
        self._router = EventRouter()
        self._leave = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        s3 = S3(
            self._work_dir / "objects",
            access_keys=dict.fromkeys(self._principals(), _SECRET),
            region=REGION,
            on_event=self._router.put_event,
        )
        self._urls["s3"] = await self._serve(s3.app(), _s3_calls)
        await self._make_bucket()
        service = MediaConvert(
            s3=self.client_settings(CONVERT, "s3"),
            on_event=self._router.put_event,
            region=REGION,
            account=ACCOUNT,
            work_dir=self._work_dir / "conversions",
            status_interval_s=0.05,
        )
        self._urls["mediaconvert"] = await self._serve(service.app(), _job_calls)
        await self._leave.enter_async_context(service)
        await self._start_functions()
        by_name = {
            self.stack.arn(name).rpartition(":")[2]: function.invoke
            for name, function in self.functions.items()
        }
        api = await self._leave.enter_async_context(lambda_api(by_name))
        self._urls["lambda"] = await self._serve(api, _invoke_calls)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave.aclose()

    def environment(self, principal: str) -> dict[str, str]:
        """What AWS's own clients read, with the key of a role."""
        endpoints = {
            f"AWS_ENDPOINT_URL_{service.upper()}": url
            for service, url in self._urls.items()
        }
        return endpoints | {
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": principal,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
        }

    def client_settings(self, principal: str, service: str) -> dict[str, Any]:
        """Arguments of a boto client."""
        return {
            "endpoint_url": self._urls[service],
            "region_name": REGION,
            "aws_access_key_id": principal,
            "aws_secret_access_key": _SECRET,
        }

    def client(self, service: str) -> AbstractAsyncContextManager[Any]:
        """A client of who made the stack."""
        session = aiobotocore.session.get_session()
        settings = self.client_settings(DEPLOYER, service)
        client: AbstractAsyncContextManager[Any] = session.create_client(
            service, **settings
        )
        return client

    async def idle(self) -> None:
        """Wait until every event was delivered."""
        await self._router.idle()

    def _principals(self) -> list[str]:
        return [*self.stack.of_type("AWS::IAM::Role"), GATEWAY, DEPLOYER]

    async def _make_bucket(self) -> None:
        made = self.stack.properties("Bucket")
        rules = [
            {
                ("MaxAgeSeconds" if name == "MaxAge" else name): one
                for name, one in rule.items()
            }
            for rule in made["CorsConfiguration"]["CorsRules"]
        ]
        bridge = made["NotificationConfiguration"]["EventBridgeConfiguration"]
        assert bridge["EventBridgeEnabled"]
        here = {"LocationConstraint": REGION}
        async with self.client("s3") as s3:
            await s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration=here)
            await s3.put_bucket_cors(
                Bucket=self.bucket, CORSConfiguration={"CORSRules": rules}
            )
            await s3.put_bucket_notification_configuration(
                Bucket=self.bucket,
                NotificationConfiguration={"EventBridgeConfiguration": {}},
            )

    async def _start_functions(self) -> None:
        for name, made in self.stack.of_type("AWS::Lambda::Function").items():
            code = self._work_dir / name
            function = Path(made["Code"]["S3Key"]).stem
            zipfile.ZipFile(io.BytesIO(zipped(function))).extractall(code)
            role = self.stack.named(made["Role"])
            self.functions[name] = await self._leave.enter_async_context(
                LambdaFunction(
                    name,
                    made["Handler"],
                    env=made["Environment"]["Variables"] | self.environment(role),
                    code_dir=code,
                    timeout_s=made["Timeout"],
                )
            )
        for name, rule in self.stack.of_type("AWS::Events::Rule").items():
            (target,) = rule["Targets"]
            invoke = self.functions[self.stack.named(target["Arn"])].invoke
            self._router.add_rule(name, rule["EventPattern"], self._noting(invoke))
        await self._leave.enter_async_context(self._router)

    def _noting(self, invoke: Any) -> Any:
        async def deliver(event: Any) -> None:
            if status := event["detail"].get("status"):
                self.statuses.append(status)
            await invoke(event)

        return deliver

    async def _serve(self, app: web.Application, needs: Any) -> str:
        @web.middleware
        async def note(request: web.Request, handler: Any) -> web.StreamResponse:
            answer: web.StreamResponse = await handler(request)
            key = request.query.get("X-Amz-Credential", "").partition("/")[0]
            signed = _KEY_ID.search(request.headers.get("Authorization", ""))
            who = signed[1] if signed else key
            if who != DEPLOYER and request.method != "OPTIONS":
                needed = await needs(request, answer.status)
                calls = [
                    Call(who or "anybody", action, on, frozenset({_BY_TLS, *about}))
                    for action, on, *about in needed
                ]
                self.calls += calls
                if self.grants is not None and refused(calls, self.grants):
                    return _denial(is_s3=needs is _s3_calls)
            return answer

        # Outermost, so that it sees refusals, too.
        app.middlewares.insert(0, note)
        server = await self._leave.enter_async_context(TestServer(app))
        return f"http://127.0.0.1:{server.port}"


def _denial(*, is_s3: bool) -> web.Response:
    if is_s3:
        text = (
            "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        )
        return web.Response(status=403, text=text, content_type="application/xml")
    kind = {"x-amzn-ErrorType": "AccessDeniedException"}
    return web.json_response({"message": "not authorized"}, status=403, headers=kind)


async def _s3_calls(request: web.Request, status: int) -> list[Any]:
    bucket, _, key = unquote(request.rel_url.raw_path[1:]).partition("/")
    if request.method == "HEAD" and not key:
        return [("s3:ListBucket", f"arn:aws:s3:::{bucket}")]
    target = f"arn:aws:s3:::{bucket}/{key}"
    what = "tagging" if "tagging" in request.query else ""
    needed = [(_S3_ACTIONS[request.method, what], target)]
    if "x-amz-tagging" in request.headers:
        needed.append(("s3:PutObjectTagging", target))
    if "If-Match" in request.headers:
        needed.append(("s3:GetObject", target))
    if status == _NOT_FOUND:
        # Who may not list is told that it is forbidden, not that it is missing.
        needed.append(("s3:ListBucket", f"arn:aws:s3:::{bucket}"))
    return needed


async def _job_calls(request: web.Request, _: int) -> list[Any]:
    operation = _operation("mediaconvert", request)
    action = f"mediaconvert:{operation}"
    if operation == "CreateJob":
        job: Mapping[str, Any] = await request.json()
        lent = ("iam:passedtoservice", "mediaconvert.amazonaws.com")
        default = f"arn:aws:mediaconvert:{REGION}:{ACCOUNT}:queues/Default"
        queue = job.get("queue", default)
        return [(action, queue), ("iam:PassRole", job["role"], lent)]
    if operation == "GetJob":
        job_id = request.path.rpartition("/")[2]
        return [(action, f"arn:aws:mediaconvert:{REGION}:{ACCOUNT}:jobs/{job_id}")]
    return [(action, request.query.get("queue", "*"))]


async def _invoke_calls(request: web.Request, _: int) -> list[Any]:
    assert _operation("lambda", request) == "Invoke"
    name = request.path.split("/")[-2]
    function = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
    return [("lambda:InvokeFunction", function)]


def _operation(service: str, request: web.Request) -> str:
    """Name of the operation, by AWS's own model."""
    model = _model(service)
    return next(
        name
        for name in model.operation_names
        if (http := model.operation_model(name).http)["method"] == request.method
        and re.fullmatch(
            re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(http["requestUri"])), request.path
        )
    )


@functools.cache
def _model(service: str) -> ServiceModel:
    return botocore.session.get_session().get_service_model(service)
