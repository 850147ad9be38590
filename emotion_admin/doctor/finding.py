"""The finding of a check, and its printed form. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import msgspec

Level = Literal["ok", "warning", "problem"]

_SUBJECT_WIDTH = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `advice` says what to do; it is empty if the level is ok."""

    subject: str
    level: Level
    found: str
    advice: str = ""


def ok(subject: str, found: str) -> Finding:
    """Nothing is wrong, or doctor cannot tell."""
    return Finding(subject, "ok", found)


def warning(subject: str, found: str, advice: str) -> Finding:
    """The system works, but the operator should act."""
    return Finding(subject, "warning", found, advice)


def problem(subject: str, found: str, advice: str) -> Finding:
    """Batches cannot be received, stored or read, now or soon."""
    return Finding(subject, "problem", found, advice)


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 if there is a problem, otherwise 0."""
    return int(any(finding.level == "problem" for finding in findings))


def as_text(finding: Finding) -> str:
    """Return a line, with the advice below it."""
    line = f"{finding.level:<8} {finding.subject:<{_SUBJECT_WIDTH}}  {_printable(finding.found)}"
    if finding.advice:
        line += f"\n{'':<8} {'':<{_SUBJECT_WIDTH}}  -> {_printable(finding.advice)}"
    return line


def count(findings: Sequence[Finding]) -> str:
    """Return the last line of the output."""
    levels = Counter(finding.level for finding in findings)
    line = f"problems: {levels['problem']}, warnings: {levels['warning']}, ok: {levels['ok']}"
    is_well = levels["ok"] == len(findings)
    return line if is_well else f"{line}. For log lines and symptoms see docs/troubleshooting.md"


def as_json(findings: Sequence[Finding]) -> str:
    """Return an object for scripts: its `findings` is a list of subject, level, found and advice."""
    text = msgspec.json.encode({"findings": [asdict(finding) for finding in findings]})
    return msgspec.json.format(text, indent=2).decode()


def _printable(text: str) -> str:
    """Replace control characters: a text from a broker must not control the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
