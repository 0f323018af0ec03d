"""A user's mistake is one line; other errors are not hidden, and a closed pipe is no mistake."""

from __future__ import annotations

import pytest
import typer

from spacy_bert.cli.errors import one_line_errors


def test_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (ValueError("a.spacy: no"), FileNotFoundError(2, "No such file", "a.spacy")):
        with pytest.raises(typer.Exit) as raised, one_line_errors():
            raise error
        assert raised.value.exit_code == 1
        assert capsys.readouterr().err.startswith("Error: a.spacy: no")


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), TypeError("ours")])
def test_what_is_no_mistake_of_the_users(error: Exception) -> None:
    with pytest.raises(type(error)), one_line_errors():
        raise error
