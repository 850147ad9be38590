"""The vocabulary of everything that people read: banned words, long sentences and frequencies, and their exceptions.

Documents are the Markdown files. Code is Python, scripts and shipped configuration. Of Python, docstrings, comments and
messages count, and names do not.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.processes import ROOT

DOCUMENTS = ("*.md", "docs/**/*.md", "examples/**/*.md", "tests/**/*.md")
PYTHON = (
    "shared",
    "emotion_daemon",
    "emotion_api",
    "emotion_admin",
    "emotion_device",
    "tests",
    "benchmarks",
    "examples",
)
CONFIGURATION = (
    "gunicorn.conf.py",
    "docker-compose.yml",
    "mosquitto.*",
    ".env.example",
    "Dockerfile",
    "scripts/*",
    "scripts/lib/*",
    "deploy/**/*",
    "emotion_api/static/**/*.js",
    "emotion_api/static/*.html",
)

BANNED = {
    r"nobody|somebody|anybody|everybody|whoever|whichever|whom": "name the person or thing",
    r"in trouble|troubles?": "outage",
    r"stamps?|stamped|stamping": "timestamp",
    r"rubbish|junk": "invalid messages",
    r"what (?:came|comes)": "name what arrived",
    r"turned away": "refused",
    r"(?:time|order) of arrival": "time or order of receipt",
    r"kept answers?": "cached responses",
    r"storing no people": "totals-only mode",
}
"""Banned expressions with what to write instead."""

LIMITS = {
    r"nobody|somebody|whoever": 0.2,
    r"what (?:is|it|they|has|was|there)": 0.7,
    r"beside": 0.3,
    r"kept": 0.3,
}
"""Most occurrences of an expression in 1,000 words of the documents."""

MOST_WORDS = 40
"""The longest sentence that a document may have."""

QUESTION_WORDS = {"what", "whatever", "whether", "how", "where", "who", "whose", "when", "which"}
"""A docstring begins with none of them: its first line says what the thing does or is."""

EXCEPTIONS = {
    ("tests/documents/vocabulary.py", "*"): "the lists themselves",
    ("tests/documents/test_vocabulary.py", "*"): "examples of findings",
    ("tests/integration/emotion_admin/test_health.py", "nobody.invalid"): "the name of a host",
    ("tests/integration/emotion_daemon/monitoring/test_heartbeat.py", "@nobody listens"): "the name of a socket",
    ("tests/integration/emotion_api/test_app.py", ":stamp"): "the name of a parameter",
    ("tests/faults/test_21_http_junk.py", "Junk"): "HTTP that is no request; the file's name",
    ("scripts/lib/setup.sh", "stamp"): "the name of a variable",
}
"""Files and expressions that may break a rule, with the reason; * is every expression."""


_CODE = re.compile(r"`[^`]*`")


class Finding(NamedTuple):
    """A place that breaks a rule."""

    file: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.rule}: {self.text}"


class Passage(NamedTuple):
    """A piece of prose, and the line on which it begins."""

    line: int
    text: str


def documents() -> list[Path]:
    """Return every Markdown file of the project."""
    found = {file for pattern in DOCUMENTS for file in ROOT.glob(pattern)}
    return sorted(file for file in found if "node_modules" not in file.parts)


def code() -> list[Path]:
    """Return every file of Python, and the scripts and configuration that are shipped."""
    python = {file for package in PYTHON for file in (ROOT / package).rglob("*.py")}
    other = {file for pattern in CONFIGURATION for file in ROOT.glob(pattern)}
    found = {file for file in python | other if "node_modules" not in file.parts}
    return sorted(file for file in found if file.is_file() and file.suffix not in (".json", ".svg"))


def in_document(file: Path) -> list[Finding]:
    """Return the banned expressions and the long sentences of a document."""
    name, text = _name(file), file.read_text(encoding="utf-8")
    found = [*_banned(name, prose(text))]
    for passage in prose(text):
        for sentence in sentences(passage.text):
            if (count := len(sentence.split())) > MOST_WORDS:
                found.append(Finding(name, passage.line, f"{count} words", sentence))
    return _without_exceptions(found)


def in_code(file: Path) -> list[Finding]:
    """Return the banned expressions of a file of code, and its docstrings that begin with a question word."""
    name, text = _name(file), file.read_text(encoding="utf-8")
    found = list(_banned(name, passages(text) if file.suffix == ".py" else _lines(text)))
    if file.suffix == ".py":
        for docstring in docstrings(text):
            if (first := _first_word(docstring.text)) in QUESTION_WORDS:
                found.append(Finding(name, docstring.line, f"begins with {first!r}", docstring.text.splitlines()[0]))
    return _without_exceptions(found)


def frequencies(files: Iterable[Path]) -> dict[str, float]:
    """Return how often each expression of LIMITS occurs in 1,000 words of these documents."""
    texts = [passage.text for file in files for passage in prose(file.read_text(encoding="utf-8"))]
    words = sum(len(text.split()) for text in texts)
    return {
        pattern: 1_000 * sum(len(_expression(pattern).findall(text)) for text in texts) / words for pattern in LIMITS
    }


def prose(markdown: str) -> list[Passage]:
    """Return paragraphs, list items, headings and table cells, without code, comments and addresses of links."""
    found: list[Passage] = []
    lines: list[str] = []
    begin, in_code = 1, False

    def end_paragraph() -> None:
        text = _plain(" ".join(lines))
        if text.strip():
            found.append(Passage(begin, text))
        lines.clear()

    for number, line in enumerate(markdown.splitlines(), 1):
        if line.lstrip().startswith("```"):
            in_code = not in_code
            end_paragraph()
        elif in_code or not line.strip() or line.startswith(("    ", "<!--")):
            end_paragraph()
        elif line.startswith("|"):
            end_paragraph()
            found += [Passage(number, _plain(cell)) for cell in re.split(r"(?<!\\)\|", line) if cell.strip(" -:")]
        else:
            if re.match(r"#|\s*(?:[-*]|\d+\.) ", line):
                end_paragraph()
            if not lines:
                begin = number
            lines.append(line.strip())
    end_paragraph()
    return found


def sentences(text: str) -> list[str]:
    """Split a passage at each full stop, question mark or colon that ends a clause."""
    return [sentence for sentence in re.split(r"(?<=[.?!:;])\**\s+(?=[\"'(`*]*[A-Z0-9`])", text) if sentence.strip()]


def docstrings(python: str) -> Iterator[Passage]:
    """Yield every string that stands alone as a statement."""
    for node in ast.walk(ast.parse(python)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield Passage(node.lineno, node.value.value.strip())


def passages(python: str) -> Iterator[Passage]:
    """Yield every comment and every string of a Python file."""
    for token in tokenize.generate_tokens(io.StringIO(python).readline):
        if token.type == tokenize.COMMENT:
            yield Passage(token.start[0], token.string)
    for node in ast.walk(ast.parse(python)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield Passage(node.lineno, node.value)


def _lines(text: str) -> Iterator[Passage]:
    yield from (Passage(number, line) for number, line in enumerate(text.splitlines(), 1))


def _banned(name: str, found_in: list[Passage] | Iterator[Passage]) -> Iterator[Finding]:
    for passage in found_in:
        text = _CODE.sub("CODE", passage.text)
        for pattern, instead in BANNED.items():
            for match in _expression(pattern).finditer(text):
                around = text[max(0, match.start() - 40) : match.end() + 30].replace("\n", " ")
                yield Finding(name, passage.line, f"{match[0]!r}, write {instead!r}", around)


def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-])(?:{pattern})(?![\w-])", re.IGNORECASE)


def _plain(markdown: str) -> str:
    """Take code and the addresses of links out of Markdown. A piece of code counts as one word."""
    return re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", _CODE.sub("CODE", markdown))


def _first_word(text: str) -> str:
    match = re.match(r"\W*([A-Za-z]+)", text)
    return match[1].lower() if match else ""


def _name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def _without_exceptions(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if not any(_is_excepted(finding, *each) for each in EXCEPTIONS)]


def _is_excepted(finding: Finding, name: str, expression: str) -> bool:
    return finding.file == name and (expression == "*" or expression in finding.text)
