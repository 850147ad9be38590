"""What doctor has found, and how it is shown. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import msgspec

Level = Literal["ok", "warning", "problem"]

_SUBJECT_WIDTH = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check: `advice` says what to do, and is empty where it is ok."""

    subject: str
    level: Level
    found: str
    advice: str = ""


def ok(subject: str, found: str) -> Finding:
    """All is as it should be, or nothing can be said against it."""
    return Finding(subject, "ok", found)


def warning(subject: str, found: str, advice: str) -> Finding:
    """It works, and somebody should look at it."""
    return Finding(subject, "warning", found, advice)


def problem(subject: str, found: str, advice: str) -> Finding:
    """Batches cannot be received, stored or read, or soon will not be."""
    return Finding(subject, "problem", found, advice)


def exit_code(findings: Sequence[Finding]) -> int:
    """1 where there is a problem, else 0."""
    return int(any(finding.level == "problem" for finding in findings))


def as_text(finding: Finding) -> str:
    """A line, and the advice below it."""
    line = f"{finding.level:<8} {finding.subject:<{_SUBJECT_WIDTH}}  {_printable(finding.found)}"
    if finding.advice:
        line += f"\n{'':<8} {'':<{_SUBJECT_WIDTH}}  -> {_printable(finding.advice)}"
    return line


def count(findings: Sequence[Finding]) -> str:
    """The last line."""
    levels = Counter(finding.level for finding in findings)
    return f"problems: {levels['problem']}, warnings: {levels['warning']}, ok: {levels['ok']}"


def as_json(findings: Sequence[Finding]) -> str:
    """The same for scripts: an object whose `findings` is a list of subject, level, found and advice."""
    text = msgspec.json.encode({"findings": [asdict(finding) for finding in findings]})
    return msgspec.json.format(text, indent=2).decode()


def _printable(text: str) -> str:
    """What others have sent, as a broker's reason, cannot write to the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
