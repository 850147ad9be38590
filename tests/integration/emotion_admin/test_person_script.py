"""Arguments of `scripts/person`, `scripts/dead-letters` and `scripts/backup`. No id gets onto a command line."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.processes import ROOT, without_settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which scripts/run was started once, with a daemon's program that says what it was given."""
    here = tmp_path / "project"
    shutil.copytree(ROOT / "scripts", here / "scripts")
    (here / "data" / "secrets").mkdir(parents=True)
    (here / "data" / "broker.conf").write_text("listener 1883 127.0.0.1\n")
    python = here / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$*"; cat\n')
    python.chmod(0o755)
    return here


def person(folder: Path, *arguments: str, typed: str = "anna\n") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [folder / "scripts" / "person", *arguments],
        env=without_settings(),
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("typed", ["anna\n", "anna"])
@pytest.mark.parametrize("device", [("--device", "jetson_1"), ("--device=jetson_1",)])
def test_the_id_goes_by_standard_input(folder: Path, device: tuple[str, ...], typed: str) -> None:
    done = person(folder, "forget", *device, "--hours", "1", typed=typed)

    assert done.stdout == f"-m emotion_admin person forget {' '.join(device)} --hours 1 --person -\nanna\n"
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("given", ["--person=anna", "--person", "--pers=anna", "-p", "anna"])
def test_an_id_on_the_command_line_is_refused_and_not_repeated(folder: Path, given: str) -> None:
    done = person(folder, "forget", "--device", "jetson_1", given)

    assert (done.returncode, done.stdout) == (1, "")
    assert "the id is read from standard input" in done.stderr
    assert "anna" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(("forget", "--device"), "--device needs a value"), ((), "usage:"), (("forget_all",), "usage:")],
)
def test_what_is_missing_is_said(folder: Path, arguments: tuple[str, ...], sentence: str) -> None:
    done = person(folder, *arguments)

    assert done.returncode != 0
    assert sentence in done.stderr


def test_an_empty_line_is_no_id(folder: Path) -> None:
    done = person(folder, "export", "--device", "jetson_1", typed="")

    assert done.returncode == 1
    assert "standard input has no person_id" in done.stderr


def test_dead_letters_hands_its_arguments_on(folder: Path) -> None:
    command = [str(folder / "scripts" / "dead-letters"), "--system", "run", "list", "--limit", "5"]
    done = subprocess.run(
        command, env=without_settings(), input="", capture_output=True, text=True, check=False, timeout=60
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "-m emotion_admin dead-letters list --limit 5\n", "")


@pytest.mark.parametrize("arguments", [("--help",), ("a.tar", "b.tar")])
def test_a_backup_goes_into_one_file_that_is_no_option(folder: Path, arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [folder / "scripts" / "backup", *arguments], env=without_settings(), capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stderr) == (2, "usage: scripts/backup [FILE]\n")
    assert not list(folder.glob("*.tar"))
