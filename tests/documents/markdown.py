"""Markdown tables, and the marks around a generated part of a document."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

_PART = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

Part = Callable[[], str]
"""Returns the text of a generated part."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; a cell may contain line breaks and bars."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def part_names(document: str) -> list[str]:
    """Return the names of the generated parts in the order of the document."""
    return [match[2] for match in _PART.finditer(document)]


def with_parts(document: str, parts: Mapping[str, Part]) -> str:
    """Return the document with each generated part written anew. Raises KeyError for an unknown name."""
    return _PART.sub(lambda match: f"{match[1]}{parts[match[2]]()}{match[3]}", document)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
