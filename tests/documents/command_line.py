"""The parts of docs/reference/cli.md, from the argument parsers and from the first comment of each script."""

import argparse
import re
from collections.abc import Iterator

from emotion_admin.__main__ import command_parser as admin_parser
from emotion_device.bridge import command_parser as bridge_parser
from emotion_device.workbench.simulation import command_parser as simulate_parser
from emotion_device.workbench.validate import command_parser as validate_parser
from shared.settings import Settings
from tests.documents.markdown import table
from tests.processes import ROOT


def scripts() -> str:
    """Each script with its first comment, in which indented lines are examples."""
    files = [file for file in sorted((ROOT / "scripts").iterdir()) if file.is_file()]
    return "\n".join(f"### scripts/{file.name}\n\n{_first_comment(file.read_text(encoding='utf-8'))}" for file in files)


def admin() -> str:
    """The commands of `python -m emotion_admin`."""
    return "\n".join(_section(parser, help_text) for parser, help_text in _commands(admin_parser(), ""))


def device() -> str:
    """The commands of `python -m emotion_device`."""
    return "\n".join(
        _section(parser, "") for parser in (bridge_parser({}), simulate_parser(Settings()), validate_parser())
    )


def _first_comment(script: str) -> str:
    """Return the comment after the first line as Markdown."""
    comment: list[str] = []
    for line in script.splitlines()[1:]:
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#").removeprefix(" "))
    text = "\n".join(comment) + "\n"
    return re.sub(r"((?:^  .*\n)+)", lambda match: f"\n```sh\n{_outdented(match[1])}```\n", text, flags=re.MULTILINE)


def _outdented(lines: str) -> str:
    return re.sub(r"^  ", "", lines, flags=re.MULTILINE)


def _commands(parser: argparse.ArgumentParser, help_text: str) -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """Yield each command that has no commands of its own, with the line about it."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield parser, help_text
    for group in groups:
        texts = {choice.dest: choice.help or "" for choice in group._choices_actions}
        for name, command in group.choices.items():
            yield from _commands(command, texts[name])


def _section(parser: argparse.ArgumentParser, help_text: str) -> str:
    text = help_text or parser.description or ""
    sentence = text[:1].upper() + text[1:].rstrip(".")
    rows = [
        (_call(action), _help(action, parser))
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction) and action.help != argparse.SUPPRESS
    ]
    options = f"\n{table(('argument', 'meaning'), rows)}" if rows else ""
    return f"### {parser.prog}\n\n{sentence}.\n{options}"


def _call(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    return f"`{action.option_strings[-1]}{value}`"


def _help(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    text = action.help or ""
    return text % {"default": action.default, "prog": parser.prog} if "%" in text else text
