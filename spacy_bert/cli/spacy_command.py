"""Entry point `spacy_cli`: hangs our commands into `python -m spacy` as `bert`.

spaCy loads this module at every start of its command line, so it imports nothing heavy.
"""

from __future__ import annotations

from spacy.cli._util import app as spacy_app

from spacy_bert.cli.app import app as bert

__all__ = ["bert"]

spacy_app.add_typer(bert, name="bert")
