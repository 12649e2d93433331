import json

from lambdas.log import log


def test_a_log_line_is_one_line_of_json_whatever_is_in_it(capsys):
    log("warning", "upload.not_ours", key="a\nb\u2028여\udcff", reason=ValueError("x"))

    (line,) = capsys.readouterr().out.splitlines()
    assert line.isascii()
    assert {
        "level": "warning",
        "event": "upload.not_ours",
        "key": "a\nb\u2028여\udcff",
        "reason": "x",
    } == json.loads(line)
