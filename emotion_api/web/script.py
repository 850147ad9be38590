"""Joins the modules of the live page into one script, which compresses better and takes one request on a slow line."""

import re
from collections import Counter
from collections.abc import Mapping

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+\.js)";\n', re.MULTILINE)
_DECLARATION = re.compile(r"^export (?=(?:async )?(?:function|class|const) \w)", re.MULTILINE)
_EXPORT = re.compile(r"^export (?:async )?(?:function|class|const) (\w+)", re.MULTILINE)
_DECLARED = re.compile(r"^(?:export )?(?:async )?(?:function|class|const|let) (\w+)", re.MULTILINE)
_COMMENT = re.compile(r"^ *(?:/\*\*.*?\*/|//[^\n]*)\n|(?<=[;,{]) //[^\n]*$", re.MULTILINE | re.DOTALL)
_TEXT = r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`(?:[^`\\$]|\\.|\$(?!\{)|\$\{[^`{}]*\})*`)"""
"""A string, or a template that holds no other one."""
_TEXTS = re.compile(_TEXT)
_SPACE = re.compile(_TEXT + r"| ?(=>|[=!]==|&&|\|\||\?\?|[=?:,;{}()<>*]) ?")
_LINE_END = re.compile(r"(?<=[;{,([])\n")
_MODULE = re.compile(r"^(?:import|export)\b", re.MULTILINE)


def joined(modules: Mapping[str, str], entry: str) -> str:
    """The module `entry` and all that it imports, without comments and spare spaces.

    A module imports names from its folder, and exports functions, classes and constants where it declares them. No
    module imports itself by way of others, and no two export the same name. Raises ValueError for any other module.
    All share one scope; only a module with a name of its own that another one has, too, gets a scope of its own.
    """
    done: dict[str, str] = {}
    declared = Counter(name for text in modules.values() for name in _DECLARED.findall(text))
    exported = Counter(name for text in modules.values() for name in _EXPORT.findall(text))
    if twice := [name for name, times in exported.items() if times > 1]:
        raise ValueError(f"two modules export {', '.join(twice)}")

    def add(name: str) -> None:
        if done.get(name) == "":
            raise ValueError(f"{name} imports itself")
        if name in done:
            return
        done[name] = ""
        for other in _IMPORT.findall(modules[name]):
            add(other)
        del done[name]  # it comes after the modules that it imports
        done[name] = _body(name, modules[name])
        exports = _EXPORT.findall(modules[name])
        if any(declared[own] > 1 for own in {*_DECLARED.findall(modules[name])} - {*exports}):
            names = ",".join(exports)
            done[name] = f"const {{{names}}}=(()=>{{\n{done[name]}return {{{names}}};\n}})();\n"

    add(entry)
    return "".join(done.values())


def _body(name: str, text: str) -> str:
    body = _DECLARATION.sub("", _IMPORT.sub("", _COMMENT.sub("", text)))
    if _MODULE.search(body):
        raise ValueError(f"{name} imports or exports in another way than the others")
    return _LINE_END.sub("", "".join(map(_dense, body.splitlines(keepends=True))))


def _dense(line: str) -> str:
    """A line without spare spaces. A template may hold another one, and a slash begin a pattern: those lines stay."""
    line = line.lstrip()
    return line if re.search("[`/]", _TEXTS.sub("", line)) else _SPACE.sub(lambda found: found[1] or found[2], line)
