"""A log without a reader, or that is no pipe."""

import io
import logging
import os

import pytest

from emotion_daemon.monitoring.log_handler import MAX_LINE_BYTES, DroppingHandler


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("test", logging.INFO, __file__, 0, text, (), None)


@pytest.fixture
def handler() -> DroppingHandler:
    return DroppingHandler()


def test_a_pipe_that_is_full_is_not_waited_for_and_what_was_dropped_is_counted(handler: DroppingHandler) -> None:
    read_end, write_end = os.pipe()
    with open(read_end, "rb", buffering=0) as reader, open(write_end, "w") as stream:
        handler.setStream(stream)
        for number in range(1_000):
            handler.emit(record(f"{number} {'x' * 1_000}"))
        read = reader.read(65_536).count(b"\n")
        handler.emit(record("the last"))
        after = reader.read(65_536).decode()

    assert 40 < read < 70
    assert after.endswith("the last\n")
    assert f"{1_000 - read} lines are missing here" in after


def test_a_line_is_no_longer_than_a_pipe_has_room_for(handler: DroppingHandler) -> None:
    assert len(handler.format(record("\u20ac" * 5_000)).encode()) <= MAX_LINE_BYTES


def test_what_is_no_file_is_written_to(handler: DroppingHandler) -> None:
    stream = io.StringIO()
    handler.setStream(stream)
    handler.emit(record("a line"))

    assert stream.getvalue() == "a line\n"
