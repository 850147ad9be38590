"""Every relative link of every Markdown file leads to a file of the repository, and its anchor to a heading there."""

import re
from pathlib import Path

import pytest

from tests.documents.vocabulary import documents
from tests.processes import ROOT

LINK = re.compile(r"!?\[[^\]]*\]\(([^()\s]+)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
ELSEWHERE = ("http://", "https://", "mailto:")


def links(document: Path) -> list[str]:
    text = CODE.sub("", document.read_text(encoding="utf-8"))
    return [target for target in LINK.findall(text) if not target.startswith(ELSEWHERE)]


def anchors(document: Path) -> set[str]:
    """The anchors of a file's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found: list[str] = []
    for heading in HEADING.findall(text):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")
        again = sum(each == anchor or re.fullmatch(rf"{re.escape(anchor)}-\d+", each) is not None for each in found)
        found.append(f"{anchor}-{again}" if again else anchor)
    return set(found)


def fault(document: Path, target: str) -> str | None:
    """Return the reason why a link leads nowhere, or None."""
    name, _, anchor = target.partition("#")
    path = (document.parent / name).resolve() if name else document
    if not path.is_relative_to(ROOT) or not path.exists():
        return f"{target}: there is no such file"
    if anchor and anchor not in anchors(path):
        return f"{target}: there is no such heading"
    return None


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    assert [why for target in links(document) if (why := fault(document, target))] == []


def test_headings_and_links_are_read_as_a_browser_shows_them(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    document.write_text(
        "# A `b` & [c](d.md): e!\n\n## Twice\n\n## Twice\n\n```sh\n# no heading [x](y)\n```\n\n[f](#twice-1) `[g](h)`\n"
    )

    assert anchors(document) == {"a-b--c-e", "twice", "twice-1"}
    assert links(document) == ["d.md", "#twice-1"]
