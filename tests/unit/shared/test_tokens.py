"""A token as it is written, with the devices and views that it may read."""

import re

import pytest

from shared.tokens import Token

TEXT = "0123456789abcdef"


@pytest.mark.parametrize(
    ("written", "devices", "views"),
    [
        (TEXT, None, None),
        (f"{TEXT};devices=jetson_1", {"jetson_1"}, None),
        (f"{TEXT};devices=A:1|b.2;views=overview|totals", {"A:1", "b.2"}, {"overview", "totals"}),
        (f"{TEXT}==;views=history", None, {"history"}),
    ],
)
def test_a_token_is_read_with_its_limits(written: str, devices: set[str] | None, views: set[str] | None) -> None:
    token = Token.parse(written)

    assert tuple(token) == (written.partition(";")[0], devices, views)
    assert Token.parse(token.written()) == token


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("short", "is not 16 to 4,096 of"),
        (f"{TEXT};", "neither devices=… nor views=…"),
        (f"{TEXT};people=1", "neither devices=… nor views=…"),
        (f"{TEXT};views=overview;views=history", "has one twice"),
        (f"{TEXT};views=", "not some of views=summary"),
        (f"{TEXT};views=overview|people", "not some of views=summary"),
        (f"{TEXT};devices=", "devices=jetson_1|jetson_2"),
        (f"{TEXT};devices=a/b", "devices=jetson_1|jetson_2"),
    ],
)
def test_a_limit_that_cannot_work_is_refused(written: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        Token.parse(written)
