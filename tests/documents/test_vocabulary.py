"""All text that people read follows one vocabulary: documents, docstrings, comments and messages."""

from pathlib import Path

import pytest

from tests.documents import vocabulary
from tests.processes import ROOT


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("file", vocabulary.documents(), ids=name)
def test_a_document_has_no_banned_word_and_no_long_sentence(file: Path) -> None:
    assert [str(finding) for finding in vocabulary.in_document(file)] == []


def test_code_has_no_banned_word_and_no_docstring_that_begins_with_a_question_word() -> None:
    assert [str(finding) for file in vocabulary.code() for finding in vocabulary.in_code(file)] == []


@pytest.mark.parametrize("exception", vocabulary.EXCEPTIONS)
def test_an_exception_is_needed(exception: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(vocabulary.EXCEPTIONS, exception)
    file = ROOT / exception[0]

    assert vocabulary.in_document(file) if file.suffix == ".md" else vocabulary.in_code(file)


@pytest.mark.parametrize(("expression", "most"), vocabulary.LIMITS.items())
def test_an_expression_is_rare_in_the_documents(expression: str, most: float) -> None:
    assert vocabulary.frequencies(vocabulary.documents())[expression] <= most


class TestTheCheckItself:
    def test_a_table_cell_is_a_passage_and_code_is_not(self) -> None:
        text = "# Title\n\nOne\nparagraph.\n\n```sh\nls\n```\n\n| a | cell |\n|---|---|\n- an `ls` item\n"

        passages = vocabulary.prose(text)

        assert [(each.line, each.text.strip()) for each in passages] == [
            (1, "# Title"),
            (3, "One paragraph."),
            (10, "a"),
            (10, "cell"),
            (12, "- an CODE item"),
        ]

    def test_a_banned_word_a_long_sentence_and_a_question_are_found(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(vocabulary, "ROOT", tmp_path)
        _, banned, *_, other = next(iter(vocabulary.BANNED)).split("|")
        document, code = tmp_path / "a.md", tmp_path / "a.py"
        document.write_text(f"{banned.capitalize()} waits. {'Word ' * 41}. A timestamp is fine.\n")
        code.write_text(f'"""What it does."""\nx = 1  # the stamp of {other}\n')

        assert [each.rule.split(",")[0] for each in vocabulary.in_document(document)] == [
            f"'{banned.capitalize()}'",
            "42 words",
        ]
        assert [each.line for each in vocabulary.in_code(code)] == [2, 2, 1]
