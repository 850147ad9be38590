"""Joins the modules of the live page into one script, which compresses better and takes one request on a slow line."""

import re
from collections.abc import Mapping

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(\w+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) (\w+))", re.MULTILINE)
_COMMENT = re.compile(r"^ *(?:/\*\*.*?\*/|//[^\n]*)\n", re.MULTILINE | re.DOTALL)
_MODULE = re.compile(r"^(?:import|export)\b", re.MULTILINE)


def joined(modules: Mapping[str, str], entry: str) -> str:
    """The module `entry` and all that it imports, without their comments. Each module's own names stay its own.

    A module imports names from its folder, and exports functions, classes and constants where it declares them. No
    module imports itself by way of others. Raises ValueError for any other module.
    """
    done: dict[str, str] = {}

    def add(name: str) -> None:
        if done.get(name) == "":
            raise ValueError(f"{name} imports itself")
        if name in done:
            return
        done[name] = ""
        for _, other in _IMPORT.findall(modules[name]):
            add(other)
        del done[name]  # it comes after the modules that it imports
        done[name] = _wrapped(name, modules[name])

    add(entry)
    return "".join(done.values())


def _wrapped(name: str, text: str) -> str:
    """A module as a constant with what it exports."""
    exported = ", ".join(_EXPORT.findall(text))
    body = _EXPORT.sub("", _IMPORT.sub(_constants, _COMMENT.sub("", text)))
    if _MODULE.search(body):
        raise ValueError(f"{name} imports or exports in another way than the others")
    return f"const {_variable(name)} = (() => {{\n{body}return {{ {exported} }};\n}})();\n"


def _constants(imported: re.Match[str]) -> str:
    names, module = imported.groups()
    return f"const {{{names.replace(' as ', ': ')}}} = {_variable(module)};\n"


def _variable(module: str) -> str:
    return "$" + module.removesuffix(".js")
