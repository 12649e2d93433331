"""What a function says about itself and its errors, without running one."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from local.lambda_child import _child_environment, _exited, _reported
from local.lambda_invocation import Function, Invocation, timed_out
from local.lambda_runtime import FunctionError, LambdaFunction
from local.lambda_thread import process_lent_to


def _function(**env: str) -> Function:
    return Function("sample", "a.handler", env, Path("/code"), 30)


def _invocation(loop: asyncio.AbstractEventLoop) -> Invocation:
    return Invocation("id-1", b"{}", 0, loop.create_future())


def test_an_error_says_type_message_and_where():
    error = FunctionError("KeyError", "'tag'", ('  File "a.py", line 1\n', "    x\n"))

    assert "KeyError: 'tag'" == str(error)
    assert ['In the function:\n  File "a.py", line 1\n    x'] == error.__notes__


def test_an_error_without_a_trace_has_no_note():
    assert not hasattr(FunctionError("Runtime.ExitError", "gone"), "__notes__")


def test_what_the_runtime_client_reports_becomes_an_error():
    body = (
        b'{"errorMessage": "no", "errorType": "OSError", "requestId": "", '
        b'"stackTrace": ["one", "two"], "later": 1}'
    )
    error = _reported(body)

    assert ("OSError", "no", ("one", "two")) == (
        error.error_type,
        error.message,
        error.stack_trace,
    )


@pytest.mark.parametrize(
    "body",
    [b"", b"no json", b"\xff", b"[]", b"{}", b'{"errorType": "x"}', b"null", b"7"],
)
def test_a_report_that_is_none_is_still_an_error(body: bytes):
    error = _reported(body)

    assert "Runtime.Unknown" == error.error_type
    assert body.decode(errors="replace") == error.message


async def test_a_crash_says_how_and_during_which_request():
    current = _invocation(asyncio.get_running_loop())

    assert (
        "RequestId: id-1 Error: Runtime exited with error: exit status 3"
        == _exited(current, 3).message
    )
    assert (
        "Error: Runtime exited with error: signal: SIGKILL"
        == _exited(None, -signal.SIGKILL).message
    )


def test_a_timeout_is_worded_as_lambda_does():
    error = timed_out("RequestId: id-1 Error: Task", 3)

    assert (
        "Sandbox.Timedout: RequestId: id-1 Error: Task timed out after 3.00 seconds"
        == str(error)
    )


def test_a_function_lives_in_the_region_of_its_environment():
    assert "arn:aws:lambda:us-east-1:111122223333:function:sample" == _function().arn
    assert (
        "arn:aws:lambda:ap-northeast-2:111122223333:function:sample"
        == _function(AWS_REGION="ap-northeast-2").arn
    )


def test_the_functions_variables_do_not_replace_lambdas_own():
    function = _function(
        AWS_LAMBDA_RUNTIME_API="elsewhere:1",
        AWS_CONFIG_FILE="/mine",
        AWS_ENDPOINT_URL_S3="http://127.0.0.1:1",
    )
    env = _child_environment(function, "127.0.0.1:2")

    assert "127.0.0.1:2" == env["AWS_LAMBDA_RUNTIME_API"]
    assert "/mine" == env["AWS_CONFIG_FILE"]
    assert os.devnull == env["AWS_SHARED_CREDENTIALS_FILE"]
    assert "http://127.0.0.1:1" == env["AWS_ENDPOINT_URL_S3"]


def test_a_lent_process_is_given_back_as_it_was(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STATUS_UPDATE_SECONDS", "10")
    monkeypatch.delenv("GATEWAY_URL", raising=False)
    before = dict(os.environ)

    with process_lent_to(_function(STATUS_UPDATE_SECONDS="1", GATEWAY_URL="x")):
        lent = (os.environ["STATUS_UPDATE_SECONDS"], os.environ["GATEWAY_URL"])

    assert ("1", "x") == lent
    assert before == dict(os.environ)


async def test_a_function_refuses_before_it_is_open(tmp_path: Path):
    function = LambdaFunction("sample", "a.handler", env={}, code_dir=tmp_path)

    with pytest.raises(RuntimeError, match="function sample is not open"):
        await function.invoke({})
