"""Handlers under AWS's own runtime client in a child: its process, its end, its words."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from local.lambda_child import ChildSandbox
from local.lambda_runtime import FunctionError
from tests.integration.lambda_functions import Make, maker, until, write_module


@pytest.fixture
def make_child(tmp_path: Path) -> Make:
    if sys.platform != "linux":
        pytest.skip("AWS's runtime client is for Linux")
    return maker(tmp_path, in_process=False)


def _is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state.rpartition(")")[2].split()[0] == "Z"


async def _until_gone(pid: int) -> None:
    await until(lambda: _is_gone(pid))


PID = """
    import os
    def handler(event, context):
        return os.getpid()
"""


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
        await until(pid_file.exists)
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
    module = write_module(
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
