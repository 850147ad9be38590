import threading
from pathlib import Path

import pytest

from emotion_admin.errors import OperatorError
from emotion_admin.tokens import Tokens
from shared.settings import Settings
from shared.tokens import Token


def test_the_api_reads_what_was_added(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens")
    made = (tokens.add("dashboard"), tokens.add("report"))

    assert Settings.from_environ({"EMOTION_API_TOKEN_FILE": str(tmp_path / "tokens")}).api_tokens == made
    assert tokens.names() == ["dashboard", "report"]


def test_a_removed_token_counts_no_more(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens")
    tokens.add("dashboard")
    left = tokens.add("report")

    tokens.remove("dashboard")

    assert Settings.from_environ({"EMOTION_API_TOKEN_FILE": str(tmp_path / "tokens")}).api_tokens == (left,)


def test_the_last_token_goes_only_where_that_is_said(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens")
    tokens.add("dashboard")

    with pytest.raises(OperatorError, match="last token"):
        tokens.remove("dashboard")
    assert tokens.names() == ["dashboard"]

    tokens.remove("dashboard", last=True)
    assert tokens.names() == []


def test_a_file_that_was_written_by_hand_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("0123456789abcdef, fedcba9876543210\n# two lines\n# dashboard\n00112233445566778899\n")
    tokens = Tokens(path)

    assert tokens.names() == ["token 1", "token 2", "dashboard"]
    assert len(Settings.from_environ({"EMOTION_API_TOKEN_FILE": str(path)}).api_tokens) == 3
    tokens.remove("token 1")
    assert tokens.names() == ["token 2", "dashboard"]


def test_two_that_add_at_once_both_stay(tmp_path: Path) -> None:
    names = [f"dashboard_{number}" for number in range(20)]
    threads = [threading.Thread(target=Tokens(tmp_path / "tokens").add, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(Tokens(tmp_path / "tokens").names()) == sorted(names)


def test_a_name_is_given_once(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens")
    tokens.add("dashboard")

    with pytest.raises(OperatorError, match="already"):
        tokens.add("dashboard")
    with pytest.raises(OperatorError, match="no token named other"):
        tokens.remove("other")
    with pytest.raises(OperatorError, match="cannot name"):
        tokens.add("two\nlines")


def test_a_token_may_be_limited(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens")
    tokens.add("dashboard")
    wall = tokens.add("wall", devices=["jetson_2", "jetson_1"], views=["overview"])

    _, read = Settings.from_environ({"EMOTION_API_TOKEN_FILE": str(tmp_path / "tokens")}).api_tokens
    assert Token.parse(read) == Token(wall, frozenset({"jetson_1", "jetson_2"}), frozenset({"overview"}))
    assert tokens.limits() == {"dashboard": "", "wall": "devices=jetson_1|jetson_2;views=overview"}
    tokens.remove("dashboard")
    assert tokens.names() == ["wall"]
