"""A package's docstring is its map: it names each module. ARCHITECTURE.md names files that exist."""

import re
from pathlib import Path

import pytest

from tests.processes import ROOT

PACKAGES = ("emotion_daemon", "emotion_api", "emotion_admin", "emotion_device", "shared")
FOLDERS = sorted(
    each.parent for name in PACKAGES for each in (ROOT / name).rglob("__init__.py") if "versions" not in each.parts
)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_package_s_docstring_names_each_module(folder: Path) -> None:
    text = (folder / "__init__.py").read_text(encoding="utf-8").split('"""')[1]
    modules = {each.stem for each in folder.glob("*.py")} - {"__init__", "env"}

    assert {each for each in modules if not re.search(rf"\b{each}\b", text)} == set()


def test_the_architecture_names_files_that_exist() -> None:
    table = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## To change")[2].partition("\n## ")[0]
    files = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.*") if ".venv" not in path.parts]
    named = set(re.findall(r"`([\w/.]+\.(?:py|js|html|yml|md))`", table))

    assert {each for each in named if not any(f"/{file}".endswith(f"/{each}") for file in files)} == set()
