"""The modules of the live page become one script. A browser runs it in tests/browser."""

import pytest

from emotion_api.web.script import joined

MAIN = """/** What it
 * is for. */

import { one, two } from "./other.js";
import { three } from "./third.js";

one(); // goes
const text = { a: "1 = 2, {", b: '" : "' }; // as it is
const simple = `a = ${b} ; "c` , '"';
const other = `${a ? ` ${b} : c` : ""}` + 1 / 2;
"""
OTHER = """import { three } from "./third.js";

  // why
const SAME = 1;
export function one() {}
export const two = three;
"""
THIRD = """export async function three() {}

let SAME;
"""


def test_each_module_comes_once_after_those_that_it_imports() -> None:
    script = joined({"main.js": MAIN, "other.js": OTHER, "third.js": THIRD, "unused.js": "surprise();\n"}, "main.js")

    assert script.splitlines() == [
        *("const {three}=(()=>{", "async function three(){}", "let SAME;return {three};", "})();"),
        *("const {one,two}=(()=>{", "const SAME=1;function one(){}", "const two=three;return {one,two};", "})();"),
        """one();const text={a:"1 = 2, {",b:'" : "'};const simple=`a = ${b} ; "c`,'"';"""
        'const other = `${a ? ` ${b} : c` : ""}` + 1 / 2;',
    ]


def test_two_modules_that_export_the_same_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two modules export three"):
        joined({"main.js": "export const three = 3;\n", "third.js": THIRD}, "main.js")


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
