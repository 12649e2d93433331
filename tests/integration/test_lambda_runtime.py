"""Real handlers, under AWS's own runtime client in a child and in a thread."""

import asyncio
import itertools
import json
import os
import sys
import time
from pathlib import Path

import pytest

from local.lambda_runtime import FunctionError
from tests.integration.lambda_functions import RETURNS, Make, maker, until


@pytest.fixture(params=["child", "thread"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Make a function of source code, to run either way."""
    if request.param == "child" and sys.platform != "linux":
        pytest.skip("AWS's runtime client is for Linux")
    return maker(tmp_path, in_process=request.param == "thread")


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
            await until((tmp_path / "started").exists)

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


async def test_an_event_that_is_no_json_is_the_callers_mistake(make: Make):
    async with make(RETURNS) as function:
        with pytest.raises(TypeError):
            await function.invoke(object())
        answer = await function.invoke(json.loads("1"))

    assert {"heard": 1} == answer
