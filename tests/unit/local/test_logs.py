"""All of the log is in the file; a person sees problems, a line each."""

import logging

from local.logs import logged

LOG = logging.getLogger("local.events")


def test_everything_is_in_the_file_and_problems_are_said_in_a_line(tmp_path):
    said = []
    with logged(tmp_path / "log", said.append):
        LOG.info("delivered %d", 3)
        error = ValueError("no such file")
        LOG.error("dropped\nsecond line", exc_info=error)
    LOG.error("after the end")

    written = (tmp_path / "log").read_text()
    assert ["events: dropped"] == said
    assert "INFO local.events: delivered 3" in written
    assert "ValueError: no such file" in written
    assert "after the end" not in written
