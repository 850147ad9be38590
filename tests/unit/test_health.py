"""`python -m emotion_daemon.health`: what it says of the file, and that it costs little."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from emotion_daemon.health import STALE_SECONDS, check, main
from tests.processes import ROOT, without_settings

LOCKED = "cannot commit: database is locked"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "health"
    path.write_text("ok\n")
    return path


def written_at(path: Path) -> float:
    return path.stat().st_mtime


class TestCheck:
    @pytest.mark.parametrize("line", ["ok", LOCKED])
    def test_a_fresh_line_counts(self, path: Path, line: str) -> None:
        path.write_text(f"{line}\n")

        assert check(path, now=written_at(path) + STALE_SECONDS - 1) == line

    def test_an_old_line_does_not(self, path: Path) -> None:
        said = check(path, now=written_at(path) + 40)

        assert said == f"the daemon has not written {path} for 40 s: it hangs or is not running"

    def test_the_limit_belongs_to_the_old(self, path: Path) -> None:
        assert check(path, now=written_at(path) + STALE_SECONDS) != "ok"

    def test_a_clock_that_was_set_back_does_not_keep_it_fresh(self, path: Path) -> None:
        said = check(path, now=written_at(path) - 3600)

        assert said == f"the daemon has not written {path} since the clock was set back: it hangs or is not running"

    def test_a_clock_that_was_set_back_a_little_is_no_trouble(self, path: Path) -> None:
        assert check(path, now=written_at(path) - 1) == "ok"

    def test_a_file_that_is_not_there_is_a_sentence(self, tmp_path: Path) -> None:
        said = check(tmp_path / "health", now=0)

        assert said == (
            f"there is no {tmp_path}/health: the daemon is not running, or its EMOTION_HEALTH_FILE is another"
        )

    def test_what_cannot_be_read_is_a_sentence(self, tmp_path: Path) -> None:
        assert check(tmp_path, now=0) == f"cannot read {tmp_path}: Is a directory"

    @pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"not ok\n", b"ok ok\n"])
    def test_anything_else_is_not_ok(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)

        assert main([str(path)]) == 1


class TestMain:
    def test_ok_is_0(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([str(path)]) == 0
        assert capsys.readouterr().out == "ok\n"

    def test_trouble_is_1_and_printed(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path.write_text(f"{LOCKED}\n")

        assert main([str(path)]) == 1
        assert capsys.readouterr().out == f"{LOCKED}\n"

    def test_an_old_file_is_1(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        os.utime(path, (0, 0))

        assert main([str(path)]) == 1
        assert "it hangs or is not running" in capsys.readouterr().out

    def test_the_path_may_come_from_the_setting(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EMOTION_HEALTH_FILE", f" {path} ")

        assert main([]) == 0

    def test_an_argument_counts_more_than_the_setting(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EMOTION_HEALTH_FILE", "/no/such/file")

        assert main([str(path)]) == 0

    @pytest.mark.parametrize("arguments", [[], [""], ["--help"], ["-h"], ["one", "two"]])
    def test_anything_else_is_2_with_the_usage(
        self, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.delenv("EMOTION_HEALTH_FILE", raising=False)

        assert main(arguments) == 2
        assert capsys.readouterr().err.startswith("usage: ")


def test_it_runs_without_what_the_daemon_imports(path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-S", "-X", "importtime", "-m", "emotion_daemon.health", path],  # -S: no site-packages
        cwd=ROOT,
        env=without_settings(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    imported = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}

    assert (run.returncode, run.stdout) == (0, "ok\n")
    assert "emotion_daemon" in imported
    assert imported.isdisjoint({"logging", "socket", "pathlib", "argparse", "emotion_daemon.heartbeat", "shared"})
