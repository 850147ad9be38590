"""The modules of the live page become one script. A browser runs it in tests/browser."""

import pytest

from emotion_api.web.script import joined

MAIN = """/** What it
 * is for. */

import { one, two as second } from "./other.js";
import { one as first } from "./third.js";

first(); // stays
"""
OTHER = """import { one as third } from "./third.js";

  // why
export function one() {}
export const two = third;
"""
THIRD = """export async function one() {}
"""


def test_each_module_comes_once_after_those_that_it_imports() -> None:
    script = joined({"main.js": MAIN, "other.js": OTHER, "third.js": THIRD, "unused.js": "surprise();\n"}, "main.js")

    assert script.splitlines() == [
        *("const $third = (() => {", "async function one() {}", "return { one };", "})();"),
        *("const $other = (() => {", "const { one: third } = $third;", ""),
        *("function one() {}", "const two = third;", "return { one, two };", "})();"),
        *("const $main = (() => {", "", "const { one, two: second } = $other;", "const { one: first } = $third;", ""),
        *("first(); // stays", "return {  };", "})();"),
    ]


@pytest.mark.parametrize(
    "line", ['import "./third.js";', "export default 1;", "export { one };", 'import * as x from "./third.js";']
)
def test_another_kind_of_import_or_export_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"main\.js imports or exports in another way"):
        joined({"main.js": f"{line}\n", "third.js": THIRD}, "main.js")


def test_modules_that_import_each_other_are_refused() -> None:
    one, two = 'import { b } from "./two.js";\n', 'import { a } from "./one.js";\n'

    with pytest.raises(ValueError, match=r"one\.js imports itself"):
        joined({"one.js": one, "two.js": two}, "one.js")
