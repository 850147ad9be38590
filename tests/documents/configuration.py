"""The tables of docs/reference/configuration.md, from shared/settings.py and .env.example."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from shared import settings as module
from shared.settings import PREFIX, Settings
from tests.documents.markdown import table
from tests.processes import ROOT

PROGRAMS = {
    "daemon": ["emotion_daemon/**/*.py"],
    "API": ["emotion_api/**/*.py", "gunicorn.conf.py"],
    "commands": ["emotion_admin/**/*.py"],
    "simulator": ["emotion_device/**/*.py"],
}
"""The files of each program. A program reads a setting if one of them has `settings.<field>`."""

NO_VARIABLE = {"unknown"}
"""Fields of Settings that are not read from a variable of their own."""

UNSET = {"people_retention_days": "never", "history_retention_days": "never"}
"""Defaults that have a better name than "none"."""


class Setting(NamedTuple):
    """A setting as its definition in shared/settings.py has it."""

    field: str
    variable: str
    meaning: str

    @property
    def default(self) -> str:
        """The default as it would stand in the environment, or a word if there is none."""
        value = getattr(Settings(), self.field)
        if value is None or value == ():
            return UNSET.get(self.field, "none")
        if isinstance(value, bool):
            return f"`{str(value).lower()}`"
        if isinstance(value, tuple):
            return f"`{','.join(map(str, value))}`"
        if hasattr(value, "items"):
            return f"`{','.join(f'{key}={name}' for key, name in value.items())}`"
        return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def all_settings() -> list[Setting]:
    """Read each field, its variable and the string below it from the source of Settings."""
    tree = ast.parse((ROOT / "shared" / "settings.py").read_text(encoding="utf-8"))
    (body,) = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings"]
    variables = dict(_variables(body))
    return [
        Setting(node.target.id, variables[node.target.id], str(below.value.value))
        for node, below in pairwise(body)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id not in NO_VARIABLE
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
    ]


def _variables(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Yield field and variable of each `field=read.kind("NAME", …)` in Settings.from_environ."""
    for node in (each for statement in body for each in ast.walk(statement)):
        if isinstance(node, ast.keyword) and node.arg is not None:
            for call in ast.walk(node.value):
                if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant):
                    yield node.arg, PREFIX + str(call.args[0].value)


def settings() -> str:
    """Every setting with its default, its meaning and the programs that read it."""
    rows = [(f"`{each.variable}`", each.default, each.meaning, ", ".join(readers(each))) for each in all_settings()]
    return table(("variable", "default", "meaning", "read by"), rows)


def secret_files() -> str:
    """The settings that may also be read from a file."""
    return "".join(f"- `{PREFIX}{name}_FILE`\n" for name in module.SECRETS)


def readers(setting: Setting) -> Iterator[str]:
    """Yield the programs that read the setting."""
    used = re.compile(rf"settings\.{setting.field}\b")
    for program, patterns in PROGRAMS.items():
        files = [file for pattern in patterns for file in sorted(ROOT.glob(pattern))]
        if any(used.search(file.read_text(encoding="utf-8")) for file in files):
            yield program


class Line(NamedTuple):
    """A variable of .env.example with its value and the comment above it. The line itself may be commented out."""

    name: str
    value: str
    comment: str
    is_set: bool


def example_lines() -> list[Line]:
    """Read .env.example. A comment is about every variable between it and the next comment or empty line."""
    lines, comment, is_open = [], "", False
    for text in (ROOT / ".env.example").read_text(encoding="utf-8").splitlines():
        if assigned := re.fullmatch(r"(# )?([A-Z_]+)=(.*)", text):
            lines.append(Line(assigned[2], assigned[3], comment, is_set=assigned[1] is None))
            is_open = False
        elif text.startswith("#"):
            comment = f"{comment} {text[1:].strip()}".strip() if is_open else text[1:].strip()
            is_open = True
        else:
            comment, is_open = "", False
    return lines


def compose() -> str:
    """The variables that only docker compose reads."""
    rows = [
        (f"`{line.name}`", _value(line), line.comment) for line in example_lines() if not line.name.startswith(PREFIX)
    ]
    return table(("variable", "value in .env.example", "meaning"), rows)


def _value(line: Line) -> str:
    if not line.value:
        return "none"
    return f"`{line.value}`" if line.is_set else f"not set; for example `{line.value}`"
