"""requirements.lock, which the image and scripts/install use, fits pyproject.toml."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.processes import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WANTED = [Requirement(line) for line in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["server"]]]
LOCK = (ROOT / "requirements.lock").read_text()
LOCKED = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", LOCK, re.MULTILINE))


@pytest.mark.parametrize("wanted", WANTED, ids=str)
def test_every_dependency_is_locked_at_a_version_that_will_do(wanted: Requirement) -> None:
    assert wanted.specifier.contains(LOCKED[wanted.name]), "run scripts/lock"


def test_every_locked_version_has_hashes() -> None:
    parts = re.split(r"^(?=[\w.-]+==)", LOCK, flags=re.MULTILINE)[1:]

    assert len(parts) == len(LOCKED)
    assert [part.partition(" ")[0] for part in parts if "--hash=sha256:" not in part] == []
