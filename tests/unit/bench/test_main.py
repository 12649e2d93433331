"""The command line."""

import pytest

from bench.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "nonsense"], "'nonsense' is none of memory, connect"),
        (["--peers", "apache"], "'apache' is none of ours"),
        (["--rounds", "0"], "'0' is not a number from 1"),
    ],
)
def test_wrong_usage_is_named(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert 2 == ended.value.code
    assert said in capsys.readouterr().err
