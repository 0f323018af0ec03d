"""BERT as a native citizen of spaCy.

Importing this package loads nothing heavy; `join`, `ask`, `choose`, `trace`, `explain_answer`,
`from_hf` and `to_hf` come with spaCy when first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spacy_bert.analysis.answering import explain_answer
    from spacy_bert.analysis.tracing import trace
    from spacy_bert.models.segments import join
    from spacy_bert.pipeline.choice import choose
    from spacy_bert.pipeline.from_hf import from_hf
    from spacy_bert.pipeline.span_qa import ask
    from spacy_bert.pipeline.to_hf import to_hf

__all__ = ["ask", "choose", "explain_answer", "from_hf", "join", "to_hf", "trace"]


def __getattr__(name: str) -> object:
    """Load the public functions on first use (PEP 562)."""
    if name == "join":
        from spacy_bert.models.segments import join

        return join
    if name == "ask":
        from spacy_bert.pipeline.span_qa import ask

        return ask
    if name == "choose":
        from spacy_bert.pipeline.choice import choose

        return choose
    if name == "from_hf":
        from spacy_bert.pipeline.from_hf import from_hf

        return from_hf
    if name == "to_hf":
        from spacy_bert.pipeline.to_hf import to_hf

        return to_hf
    if name == "trace":
        from spacy_bert.analysis.tracing import trace

        return trace
    if name == "explain_answer":
        from spacy_bert.analysis.answering import explain_answer

        return explain_answer
    raise AttributeError(f"module 'spacy_bert' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted([*globals(), *__all__])
