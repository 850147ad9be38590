"""The files of a clone, on every machine and with every setting of git."""

import subprocess

import pytest

from tests.processes import ROOT


def git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout.splitlines()


def test_every_file_has_lf_at_its_line_ends_also_in_a_clone_with_core_autocrlf() -> None:
    files = git("-c", "core.autocrlf=true", "ls-files", "--eol")

    assert [line for line in files if "eol=lf" not in line] == []
    assert len(files) > 400


@pytest.mark.parametrize("name", ["build/lib", "server.key", "server.crt", "ca/ca.key", ".env", "data/emotion.db"])
def test_what_the_documented_commands_create_is_ignored(name: str) -> None:
    assert git("check-ignore", name) == [name]
