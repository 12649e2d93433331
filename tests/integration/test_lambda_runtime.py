"""
Real handlers, under AWS's own runtime client in a child and in a thread.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.lambda_child import ChildSandbox
from local.lambda_runtime import FunctionError, LambdaFunction

Make = Callable[..., LambdaFunction]

_module_numbers = itertools.count()


def _write_module(folder: Path, source: str) -> str:
    """A module name is used once: a thread finds an old one already imported."""
    name = f"function_{next(_module_numbers)}"
    (folder / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")
    return name


def _maker(folder: Path, *, in_process: bool) -> Make:
    def make(source: str, **settings: Any) -> LambdaFunction:
        module = _write_module(folder, source)
        return LambdaFunction(
            "sample",
            f"{module}.handler",
            env=settings.pop("env", {}),
            code_dir=folder,
            in_process=in_process,
            **settings,
        )

    return make


@pytest.fixture(params=["child", "thread"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Make a function of source code, to run either way."""
    if request.param == "child" and sys.platform != "linux":
        pytest.skip("AWS's runtime client is for Linux")
    return _maker(tmp_path, in_process=request.param == "thread")


@pytest.fixture
def make_child(tmp_path: Path) -> Make:
    if sys.platform != "linux":
        pytest.skip("AWS's runtime client is for Linux")
    return _maker(tmp_path, in_process=False)


@pytest.fixture
def make_thread(tmp_path: Path) -> Make:
    return _maker(tmp_path, in_process=True)


def _is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state.rpartition(")")[2].split()[0] == "Z"


async def _until(happened: Callable[[], bool]) -> None:
    """Wait for what another process does; it has no way to call us."""
    async with asyncio.timeout(10):
        while not happened():  # noqa: ASYNC110 - a file or a pid has no event
            await asyncio.sleep(0.01)


async def _until_gone(pid: int) -> None:
    await _until(lambda: _is_gone(pid))


RETURNS = """
    def handler(event, context):
        return {"heard": event}
"""
PID = """
    import os
    def handler(event, context):
        return os.getpid()
"""


async def test_the_event_reaches_the_handler_and_its_answer_comes_back(make: Make):
    async with make(RETURNS) as function:
        answer = await function.invoke({"Records": [1, None, "휴가 + .mov"]})

    assert {"heard": {"Records": [1, None, "휴가 + .mov"]}} == answer


async def test_an_event_and_an_answer_of_200_kb_of_korean_survive(make: Make):
    text = "여름 휴가 " * 15_000

    async with make(RETURNS) as function:
        answer = await function.invoke({"name": text})

    assert 200_000 < len(text.encode())
    assert {"heard": {"name": text}} == answer


async def test_the_context_knows_request_deadline_and_function(make: Make):
    source = """
        def handler(event, context):
            return {
                "id": context.aws_request_id,
                "left_ms": context.get_remaining_time_in_millis(),
                "name": context.function_name,
                "version": context.function_version,
                "memory": context.memory_limit_in_mb,
                "arn": context.invoked_function_arn,
                "log": [context.log_group_name, context.log_stream_name],
            }
    """
    env = {"AWS_REGION": "ap-northeast-2"}
    async with make(source, timeout_s=20, env=env) as function:
        first = await function.invoke({})
        second = await function.invoke({})

    assert first["id"] != second["id"]
    assert 36 == len(first["id"])
    assert 15_000 < first["left_ms"] <= 20_000
    assert "sample" == first["name"]
    assert "$LATEST" == first["version"]
    assert "512" == first["memory"]
    assert "arn:aws:lambda:ap-northeast-2:111122223333:function:sample" == first["arn"]
    assert ["/aws/lambda/sample", "local"] == first["log"]


async def test_the_handler_sees_the_variables_it_was_given(make: Make):
    source = """
        import os
        AT_IMPORT = os.environ["GATEWAY_URL"]
        def handler(event, context):
            return [AT_IMPORT, os.environ["GATEWAY_URL"]]
    """
    env = {"GATEWAY_URL": "http://127.0.0.1:1/"}
    async with make(source, env=env) as function:
        answer = await function.invoke({})

    assert ["http://127.0.0.1:1/", "http://127.0.0.1:1/"] == answer
    assert "GATEWAY_URL" not in os.environ


async def test_a_handler_that_raises_is_an_error_with_its_trace(make: Make):
    source = """
        def handler(event, context):
            return deeper(event)
        def deeper(event):
            raise LookupError("no tag on " + event["key"])
    """
    async with make(source) as function:
        with pytest.raises(FunctionError) as caught:
            await function.invoke({"key": "영화"})

    error = caught.value
    assert "LookupError" == error.error_type
    assert "no tag on 영화" == error.message
    assert "LookupError: no tag on 영화" == str(error)
    assert "return deeper(event)" in error.stack_trace[0]
    assert "raise LookupError" in error.stack_trace[-1]
    assert "raise LookupError" in error.__notes__[0]


async def test_an_error_of_any_length_comes_through(make: Make):
    source = """
        def handler(event, context):
            raise ValueError("x" * 400_000)
    """
    async with make(source) as function:
        with pytest.raises(FunctionError) as caught:
            await function.invoke({})

    assert 400_000 == len(caught.value.message)


async def test_after_an_error_the_same_function_still_works(make: Make):
    source = """
        calls = 0
        def handler(event, context):
            global calls
            calls += 1
            if event == "raise":
                raise ValueError(event)
            return calls
    """
    async with make(source) as function:
        with pytest.raises(FunctionError):
            await function.invoke("raise")
        calls = await function.invoke("count")

    assert 2 == calls


async def test_a_module_that_raises_on_import_is_reported_with_its_trace(make: Make):
    source = """
        raise OSError("no such setting")
    """
    async with make(source) as function:
        for _again in range(2):
            with pytest.raises(FunctionError) as caught:
                await function.invoke({})

            assert "OSError" == caught.value.error_type
            assert "no such setting" == caught.value.message
            assert "raise OSError" in caught.value.stack_trace[-1]


@pytest.mark.parametrize(
    ("source", "error_type", "words"),
    [
        (
            "import module_that_is_nowhere",
            "Runtime.ImportModuleError",
            "No module named 'module_that_is_nowhere'",
        ),
        ("def handler(:", "Runtime.UserCodeSyntaxError", "Syntax error in module"),
        ("other = 1", "Runtime.HandlerNotFound", "Handler 'handler' missing"),
    ],
)
async def test_code_that_cannot_be_loaded_is_named_as_lambda_does(
    make: Make, source: str, error_type: str, words: str
):
    async with make(source) as function:
        with pytest.raises(FunctionError) as caught:
            await function.invoke({})

    assert error_type == caught.value.error_type
    assert words in caught.value.message


async def test_an_answer_that_is_no_json_is_an_error_of_the_function(make: Make):
    source = """
        def handler(event, context):
            return object()
    """
    async with make(source) as function:
        with pytest.raises(FunctionError) as caught:
            await function.invoke({})

    assert "Runtime.MarshalError" == caught.value.error_type


async def test_a_handler_that_exits_is_an_error_and_the_next_one_works(make: Make):
    source = """
        import sys
        def handler(event, context):
            if event == "exit":
                sys.exit(3)
            return event
    """
    async with make(source) as function:
        with pytest.raises(FunctionError) as caught:
            await function.invoke("exit")
        answer = await function.invoke("work")

    assert "Runtime.ExitError" == caught.value.error_type
    assert "exit status 3" in caught.value.message
    assert "work" == answer


async def test_a_handler_past_its_time_is_given_up_and_the_next_one_works(make: Make):
    source = """
        import time
        def handler(event, context):
            if event == "hang":
                time.sleep(5)
            return event
    """
    async with make(source, timeout_s=0.3) as function:
        start_s = time.monotonic()
        with pytest.raises(FunctionError) as caught:
            await function.invoke("hang")
        took_s = time.monotonic() - start_s
        answer = await function.invoke("work")

    assert "Sandbox.Timedout" == caught.value.error_type
    assert "Task timed out after 0.30 seconds" in caught.value.message
    assert 3 > took_s
    assert "work" == answer


async def test_invocations_run_one_at_a_time_in_the_order_they_came(make: Make):
    source = """
        import time
        def handler(event, context):
            start = time.monotonic()
            time.sleep(0.02)
            return [event, start, time.monotonic()]
    """
    async with make(source) as function:
        runs = await asyncio.gather(*(function.invoke(n) for n in range(5)))

    assert [0, 1, 2, 3, 4] == [number for number, _, _ in runs]
    assert all(end <= start for (_, _, end), (_, start, _) in itertools.pairwise(runs))


async def test_two_functions_do_not_wait_for_each_other(make: Make, tmp_path: Path):
    waits = f"""
        import pathlib, time
        def handler(event, context):
            for _ in range(500):
                if pathlib.Path({str(tmp_path)!r}, "go").exists():
                    return "went"
                time.sleep(0.01)
    """
    goes = f"""
        import pathlib
        def handler(event, context):
            pathlib.Path({str(tmp_path)!r}, "go").touch()
    """
    async with make(waits) as one, make(goes) as other:
        answer, _ = await asyncio.gather(one.invoke({}), other.invoke({}))

    assert "went" == answer


async def test_a_function_that_is_not_open_refuses(make: Make):
    function = make(RETURNS)
    async with function:
        await function.invoke({})

    with pytest.raises(RuntimeError, match="sample is not open"):
        await function.invoke({})


async def test_closing_ends_the_waits_for_the_handler(make: Make, tmp_path: Path):
    source = f"""
        import pathlib, time
        def handler(event, context):
            pathlib.Path({str(tmp_path)!r}, "started").touch()
            time.sleep(5)
    """
    async with asyncio.timeout(10):
        async with make(source) as function:
            running = asyncio.create_task(function.invoke("running"))
            queued = asyncio.create_task(function.invoke("queued"))
            await _until((tmp_path / "started").exists)

        with pytest.raises(FunctionError, match=r"Sandbox\.Stopped"):
            await running
        with pytest.raises(RuntimeError, match="not open"):
            await queued


async def test_it_opens_and_closes_again_and_unused(make: Make):
    function = make(RETURNS)

    for _time in range(2):
        async with function:
            assert {"heard": 1} == await function.invoke(1)
    async with function:
        pass


async def test_a_warm_function_keeps_its_process(make_child: Make):
    async with make_child(PID) as function:
        first = await function.invoke({})
        second = await function.invoke({})

    assert first == second
    assert os.getpid() != first


async def test_a_crash_is_an_error_of_its_own_invocation_only(make_child: Make):
    source = """
        import os, signal
        def handler(event, context):
            if event == "exit":
                os._exit(7)
            if event == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            return event
    """
    async with make_child(source) as function:
        with pytest.raises(FunctionError) as exited:
            await function.invoke("exit")
        with pytest.raises(FunctionError) as killed:
            await function.invoke("kill")
        answer = await function.invoke("work")

    assert "Runtime.ExitError" == exited.value.error_type
    assert "exit status 7" in exited.value.message
    assert exited.value.message.startswith("RequestId: ")
    assert "SIGKILL" in killed.value.message
    assert "work" == answer


async def test_a_crash_is_seen_though_something_it_started_lives_on(
    make_child: Make, tmp_path: Path
):
    source = f"""
        import os, pathlib, subprocess
        def handler(event, context):
            child = subprocess.Popen(["sleep", "30"])
            pathlib.Path({str(tmp_path)!r}, "pid").write_text(str(child.pid))
            os._exit(7)
    """
    async with asyncio.timeout(10), make_child(source) as function:
        with pytest.raises(FunctionError, match="exit status 7"):
            await function.invoke({})

        await _until_gone(int((tmp_path / "pid").read_text(encoding="ascii")))


async def test_a_child_that_died_between_two_events_harms_neither(make_child: Make):
    async with make_child(PID) as function:
        first = await function.invoke({})
        sandbox = function._sandbox
        assert isinstance(sandbox, ChildSandbox)
        await sandbox._polled
        os.kill(first, signal.SIGKILL)
        await sandbox._over
        second = await function.invoke({})

    assert first != second


async def test_a_child_past_its_time_is_ended(make_child: Make, tmp_path: Path):
    source = f"""
        import os, pathlib, subprocess
        def handler(event, context):
            child = subprocess.Popen(["sleep", "30"])
            text = f"{{os.getpid()}} {{child.pid}}"
            pathlib.Path({str(tmp_path)!r}, "pids").write_text(text)
            child.wait()
    """
    async with make_child(source, timeout_s=0.5) as function:
        with pytest.raises(FunctionError, match="timed out"):
            await function.invoke({})

        for pid in (tmp_path / "pids").read_text(encoding="ascii").split():
            await _until_gone(int(pid))


async def test_a_cancelled_invocation_ends_its_child(make_child: Make, tmp_path: Path):
    source = f"""
        import os, pathlib, time
        def handler(event, context):
            if event == "work":
                return os.getpid()
            part = pathlib.Path({str(tmp_path)!r}, "part")
            part.write_text(str(os.getpid()))
            part.rename(part.with_name("pid"))
            time.sleep(30)
    """
    pid_file = tmp_path / "pid"
    async with make_child(source) as function:
        running = asyncio.create_task(function.invoke("hang"))
        await _until(pid_file.exists)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        ended = int(pid_file.read_text(encoding="ascii"))

        assert _is_gone(ended)
        assert ended != await function.invoke("work")


async def test_the_child_sees_lambdas_variables_and_none_of_ours(
    make_child: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "somebody's own")
    monkeypatch.setenv("REELREADY_DATABASE_URL", "postgresql://elsewhere")
    source = """
        import os
        def handler(event, context):
            return {**os.environ, "cwd": os.getcwd()}
    """
    async with make_child(source, env={"AWS_REGION": "eu-west-1"}) as function:
        seen = await function.invoke({})

    assert "AWS_SECRET_ACCESS_KEY" not in seen
    assert "REELREADY_DATABASE_URL" not in seen
    assert "sample" == seen["AWS_LAMBDA_FUNCTION_NAME"]
    assert str(tmp_path) == seen["LAMBDA_TASK_ROOT"]
    assert str(tmp_path) == seen["cwd"]
    assert "eu-west-1" == seen["AWS_DEFAULT_REGION"]
    assert seen["_HANDLER"].endswith(".handler")
    assert seen["_X_AMZN_TRACE_ID"].startswith("Root=1-")


async def test_what_the_child_prints_and_logs_goes_to_the_functions_logger(
    make_child: Make, caplog: pytest.LogCaptureFixture
):
    source = """
        import logging, sys
        def handler(event, context):
            print("변환 시작")
            print("to stderr", file=sys.stderr)
            logging.getLogger("mine").warning("careful")
            print("y" * 300_000)
            print("no line end", end="")
    """
    with caplog.at_level(logging.INFO):
        async with make_child(source) as function:
            await function.invoke({})

    ours = [r for r in caplog.records if r.name == "local.lambda_runtime.sample"]
    lines = [record.getMessage() for record in ours]
    assert "변환 시작" == lines[0]
    assert "to stderr" == lines[1]
    assert lines[2].startswith("[WARNING]")
    assert "careful" in lines[2]
    assert 300_000 == sum(line.count("y") for line in lines[3:])
    assert "no line end" == lines[-1]


async def test_no_child_and_no_port_is_left_after_the_end(make_child: Make):
    source = """
        import os
        def handler(event, context):
            return [os.getpid(), os.environ["AWS_LAMBDA_RUNTIME_API"]]
    """
    async with asyncio.timeout(10), make_child(source) as function:
        pid, api = await function.invoke({})
        host, _, port = api.partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
        await writer.wait_closed()

    assert "127.0.0.1" == host
    assert _is_gone(pid)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, int(port))


async def test_kill_9_of_the_parent_leaves_no_child(make_child: Make, tmp_path: Path):
    module = _write_module(
        tmp_path,
        """
        import os, time
        def handler(event, context):
            if event == "hang":
                print("hanging")
                time.sleep(30)
            return os.getpid()
        """,
    )
    parent_source = f"""
        import asyncio, logging, pathlib, sys
        from local.lambda_runtime import LambdaFunction
        log = logging.getLogger("local.lambda_runtime")
        log.addHandler(logging.StreamHandler(sys.stdout))
        log.setLevel("INFO")
        async def main():
            code = pathlib.Path({str(tmp_path)!r})
            async with LambdaFunction(
                "idle", "{module}.handler", env={{}}, code_dir=code
            ) as idle, LambdaFunction(
                "busy", "{module}.handler", env={{}}, code_dir=code
            ) as busy:
                print(await idle.invoke({{}}), await busy.invoke({{}}), flush=True)
                await busy.invoke("hang")
        asyncio.run(main())
    """
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", textwrap.dedent(parent_source)),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert parent.stdout is not None
        async with asyncio.timeout(20):
            pids = [int(pid) for pid in (await parent.stdout.readline()).split()]
            assert b"hanging\n" == await parent.stdout.readline()
    finally:
        with contextlib.suppress(ProcessLookupError):
            parent.kill()
        await parent.wait()

    assert 2 == len(pids)
    for pid in pids:
        await _until_gone(pid)


async def test_an_answer_over_the_limit_is_an_error_and_the_next_one_works(
    make_child: Make,
):
    source = """
        def handler(event, context):
            return "z" * event
    """
    async with make_child(source) as function:
        with pytest.raises(FunctionError):
            await function.invoke(7_000_000)
        answer = await function.invoke(3)

    assert "zzz" == answer


async def test_an_answer_to_no_invocation_is_refused(make_child: Make):
    source = """
        import http.client, os
        def post(path, body):
            api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
            api.request("POST", "/2018-06-01/runtime/" + path, body)
            answer = api.getresponse()
            answer.read()
            api.close()
            return answer.status
        def handler(event, context):
            return [
                post("invocation/another/response", "1"),
                post("invocation/another/error", "no json"),
                post("invocation/" + context.aws_request_id + "/elsewhere", "1"),
            ]
    """
    async with make_child(source) as function:
        answer = await function.invoke({})

    assert [400, 400, 404] == answer


@contextlib.contextmanager
def _environment_kept() -> Iterator[None]:
    before = dict(os.environ)
    path = list(sys.path)
    yield
    assert before == dict(os.environ)
    assert path == sys.path


async def test_threads_of_functions_that_agree_share_the_process(make_thread: Make):
    shared = {"GATEWAY_URL": "http://127.0.0.1:1/"}
    with _environment_kept():
        async with (
            make_thread(RETURNS, env=shared) as one,
            make_thread(RETURNS, env={**shared, "MORE": "1"}) as other,
        ):
            answers = [await one.invoke(1), await other.invoke(2)]

    assert [{"heard": 1}, {"heard": 2}] == answers


async def test_threads_of_functions_that_disagree_are_refused(make_thread: Make):
    one = make_thread(RETURNS, env={"GATEWAY_URL": "http://127.0.0.1:1/"})
    other = make_thread(RETURNS, env={"GATEWAY_URL": "http://127.0.0.1:2/"})

    with _environment_kept():
        async with one:
            with pytest.raises(ValueError, match="GATEWAY_URL"):
                await other.__aenter__()


async def test_an_event_that_is_no_json_is_the_callers_mistake(make: Make):
    async with make(RETURNS) as function:
        with pytest.raises(TypeError):
            await function.invoke(object())
        answer = await function.invoke(json.loads("1"))

    assert {"heard": 1} == answer
