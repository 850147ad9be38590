"""The documents that were installed together with this program: docs/ of the repository."""

from collections.abc import Iterator
from pathlib import Path

from emotion_admin.errors import OperatorError

FOLDER = Path(__file__).resolve().parent.parent / "docs"


def pages(folder: Path = FOLDER) -> Iterator[tuple[str, str]]:
    """Yield path and title of every page, the path relative to `folder`. Raises OperatorError if there is no page."""
    found = sorted(folder.rglob("*.md"))
    if not found:
        raise OperatorError(f"there are no documents in {folder}: read docs/ in the repository")
    for path in found:
        with path.open(encoding="utf-8") as page:
            yield str(path.relative_to(folder)), page.readline().lstrip("# ").rstrip()
