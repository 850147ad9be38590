"""`python -m emotion_admin docs`: where the documents are, and which there are."""

from pathlib import Path

import pytest

from emotion_admin.__main__ import main
from emotion_admin.documents import pages
from emotion_admin.errors import OperatorError
from tests.processes import ROOT


def test_the_command_prints_the_folder_and_every_page_with_its_title(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["docs"]) == 0

    folder, *lines = capsys.readouterr().out.splitlines()
    listed = dict(line.split(maxsplit=1) for line in lines)
    assert Path(folder) == ROOT / "docs"
    assert listed["runbooks/EmotionDiskFull.md"] == "EmotionDiskFull"
    assert listed["operate/doctor.md"] == "doctor: find the fault"
    assert all((ROOT / "docs" / path).is_file() for path in listed)


def test_an_installation_without_documents_says_so(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=f"no documents in {tmp_path}"):
        list(pages(tmp_path))
