"""The analyses one by one, from a pipeline and Docs to the sections of a report.

What the commands `python -m spacy bert analyze ...` do; in Python, the analyses themselves give
arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from spacy_bert.analysis.answering import explain_answer, explain_answers
from spacy_bert.analysis.attention_parser import attention_parser
from spacy_bert.analysis.attention_patterns import attention_patterns
from spacy_bert.analysis.cat_probing import cat_probe
from spacy_bert.analysis.cls_attention import attack_attention, permute_attention
from spacy_bert.analysis.code_structure import read_code, read_tree
from spacy_bert.analysis.erasure import erase_dimensions, erase_words
from spacy_bert.analysis.head_distances import head_distances
from spacy_bert.analysis.head_relations import Annotation, coreference, head_relations
from spacy_bert.analysis.head_study import study_heads
from spacy_bert.analysis.inputs import read_examples
from spacy_bert.analysis.ranking import remove_marker, segment_attention
from spacy_bert.analysis.report import Report
from spacy_bert.analysis.sections.answers import add_answer, add_answers
from spacy_bert.analysis.sections.attention import add_attention, add_head_distances
from spacy_bert.analysis.sections.code import add_code
from spacy_bert.analysis.sections.erasure import add_dimension_erasure, add_word_erasure
from spacy_bert.analysis.sections.heads import add_heads
from spacy_bert.analysis.sections.ranking import (
    add_adversarial_attention,
    add_marker_removal,
    add_permuted_attention,
    add_segment_attention,
)
from spacy_bert.analysis.sections.relations import (
    add_attention_parser,
    add_coreference,
    add_relations,
)
from spacy_bert.analysis.sections.trace import add_trace
from spacy_bert.analysis.task_head import KINDS
from spacy_bert.analysis.tracing import trace
from spacy_bert.models.segments import SEPARATOR
from spacy_bert.pipeline.choice import BertChoice
from spacy_bert.pipeline.span_qa import BertSpanQA
from spacy_bert.pipeline.textcat import BertTextCategorizer

LONGEST_PICTURE = 30  # tokens of the Doc that is drawn, among many
ERASED = 50  # Docs whose words are erased, among many
COMPARED = 200  # Docs whose heads are compared pair by pair: its time grows with heads squared
TESTED = 50  # Docs whose attention is attacked: each takes hundreds of passes
DIMENSIONS_OF = 20  # Docs whose dimensions are erased: each takes as many passes as dimensions


@dataclass(frozen=True, kw_only=True)
class Look:
    """Where to look, and where what is seen goes.

    Attributes:
        report: Gets the sections.
        nlp: The pipeline.
        source: What the figures are of, for the captions.
        learned: The file that probes learn from, if it is not that of the source.
        component: The component that is meant, if there are several.
        progress: Called with how much more is done.
    """

    report: Report
    nlp: Language
    source: str
    learned: str | None = None
    component: str | None = None
    progress: Callable[[int], object] = lambda more: None

    def at(self, docs: Sequence[object], *, scored: Sequence[object] | None = None) -> str:
        """The source, how many Docs of it were read, and how many others were scored."""
        if scored is None:
            return f"{self.source}, {_count(docs)}"
        if self.learned is None:
            return f"{self.source}, {_count(docs)}, scored on {len(scored):,} others"
        return f"{self.source}, {_count(scored)}; learned from {_count(docs)} of {self.learned}"

    def beside(self, others: Mapping[str, str]) -> Look:
        """The same, where other models are shown too: their names, and where they come from."""
        named = [f"{name}: {model}" for name, model in others.items()]
        return replace(self, source="; ".join([self.source, *named]))


def _count(docs: Sequence[object]) -> str:
    return f"{len(docs):,} Doc{'' if len(docs) == 1 else 's'}"


def look_at_all(look: Look, file: Path, *, limit: int, before: Language | None = None) -> None:
    """Every analysis that a pipeline and a file have what it needs for.

    Of several components that decide, the first is looked at, unless one is named.

    Args:
        look: Where to look.
        file: The Docs.
        limit: Docs at most.
        before: For questions: another pipeline, to be shown beside.

    Raises:
        ValueError: If the pipeline has no encoder, or the file no Docs.
    """
    deciding = [name for name, pipe in look.nlp.pipeline if isinstance(pipe, KINDS)]
    if look.component is None and len(deciding) > 1:
        look = replace(look, component=deciding[0])
        look.report.text(f"Of {', '.join(deciding)}, {deciding[0]} is looked at.")
    examples = read_examples(look.nlp, file, limit=limit)
    docs = [example.reference for example in examples]
    look_at_attention(look, docs)
    short = [doc for doc in docs if len(doc) <= LONGEST_PICTURE]
    if short:
        look_at_doc(look, max(short, key=len))
    if all(doc.has_annotation("DEP") for doc in docs):
        look_at_relations(look, docs)
        look_at_trees(look, docs)
    if not deciding:
        return
    pipe = look.nlp.get_pipe(look.component or deciding[0])
    look_at_heads(look, examples, dev=None, keep=0.5)
    look_at_words(look, examples[:ERASED])
    if isinstance(pipe, (BertTextCategorizer, BertChoice)):
        look_at_explanations(look, [example.predicted for example in examples])
    if any(SEPARATOR in doc.text for doc in docs):
        look_at_pairs(look, examples)
    if isinstance(pipe, BertSpanQA):
        look_at_answers(look, examples, before=before)


def look_at_attention(look: Look, docs: Sequence[Doc]) -> None:
    """What heads look at, how broadly, and which look at the same things (Clark et al. 2019)."""
    patterns = attention_patterns(look.nlp, docs, component=look.component, progress=look.progress)
    add_attention(look.report, patterns, source=look.at(docs))
    compared = docs[:COMPARED]
    distances = head_distances(look.nlp, compared, component=look.component, progress=look.progress)
    add_head_distances(look.report, distances, source=look.at(compared), patterns=patterns)


def look_at_relations(
    look: Look, docs: Sequence[Doc], *, annotation: Annotation = "gold", parser: bool = False
) -> None:
    """Single heads as parsers, and if wanted a parser of the attention of all of them."""
    found = head_relations(
        look.nlp, docs, component=look.component, annotation=annotation, progress=look.progress
    )
    add_relations(look.report, found, source=look.at(docs))
    if parser:
        parsing = attention_parser(
            look.nlp, docs, component=look.component, annotation=annotation, progress=look.progress
        )
        add_attention_parser(look.report, parsing, source=look.at(docs))


def look_at_coreference(look: Look, docs: Sequence[Doc]) -> None:
    """Heads as pickers of antecedents, of the clusters in `doc.spans`."""
    found = coreference(look.nlp, docs, component=look.component, progress=look.progress)
    add_coreference(look.report, found, source=look.at(docs))


def look_at_heads(
    look: Look,
    examples: Sequence[Example],
    *,
    dev: Sequence[Example] | None,
    keep: float,
    random_orders: int = 3,
) -> None:
    """Which heads a component needs, and what is left when the others go (Michel et al. 2019)."""
    found = study_heads(
        look.nlp,
        examples,
        look.component,
        dev=dev,
        keep=keep,
        seeds=random_orders,
        progress=look.progress,
    )
    source = look.at(examples, scored=dev)
    add_heads(look.report, found, source=source, same=dev is None)


def look_at_words(look: Look, examples: Sequence[Example], *, layer: int = -1) -> None:
    """Which words, and which dimensions of a layer, decide (Li et al. 2016)."""
    words = list(erase_words(look.nlp, examples, look.component, progress=look.progress))
    add_word_erasure(look.report, words, source=look.at(examples))
    first = examples[:DIMENSIONS_OF]
    dimensions = erase_dimensions(
        look.nlp, first, look.component, layer=layer, progress=look.progress
    )
    add_dimension_erasure(look.report, dimensions, source=look.at(first))


def look_at_explanations(look: Look, docs: Sequence[Doc]) -> None:
    """Whether the attention of [CLS] explains a decision (Jain & Wallace 2019)."""
    tested = docs[:TESTED]
    permuted = permute_attention(look.nlp, tested, look.component, progress=look.progress)
    add_permuted_attention(look.report, permuted, source=look.at(tested))
    attacked = attack_attention(look.nlp, tested, look.component, progress=look.progress)
    add_adversarial_attention(look.report, attacked, source=look.at(tested))


def look_at_pairs(look: Look, examples: Sequence[Example]) -> None:
    """How the parts of pairs attend to each other, and what markers are for (Qiao et al. 2019)."""
    docs = [example.predicted for example in examples]
    segments = segment_attention(look.nlp, docs, look.component, progress=look.progress)
    add_segment_attention(look.report, segments, source=look.at(docs))
    removed = [
        remove_marker(look.nlp, examples, marker, look.component, progress=look.progress)
        for marker in ("[SEP]", "[CLS]")
    ]
    add_marker_removal(look.report, removed, source=look.at(docs))


def look_at_answers(
    look: Look, examples: Sequence[Example], *, before: Language | None = None
) -> None:
    """How questions are answered: the first one in pictures, all of them in curves."""
    first = next((eg.reference for eg in examples if SEPARATOR in eg.reference.text), None)
    if first is None:
        raise ValueError("the data hold no question with a context (two segments)")
    one = explain_answer(look.nlp, first, before=before, component=look.component)
    add_answer(look.report, one, source=look.source)
    found = explain_answers(
        look.nlp, examples, before=before, component=look.component, progress=look.progress
    )
    add_answers(look.report, found, source=look.at(examples))


def look_at_code(look: Look, codes: Sequence[str]) -> None:
    """Whether attention follows the structure of Python code (CAT-probing)."""
    structures = [read_code(code, look.nlp.vocab) for code in codes]
    found = cat_probe(look.nlp, structures, component=look.component, progress=look.progress)
    add_code(look.report, found, source=f"{look.source}, {len(codes):,} functions")


def look_at_trees(look: Look, docs: Sequence[Doc]) -> None:
    """The same of dependency trees in prose, which is this package's own extension."""
    structures = [read_tree(doc) for doc in docs]
    found = cat_probe(look.nlp, structures, component=look.component, progress=look.progress)
    add_code(look.report, found, source=look.at(docs), prose=True)


def look_at_doc(look: Look, doc: Doc) -> None:
    """The attention of all heads in one Doc, in pictures."""
    found = trace(look.nlp, doc, component=look.component)
    add_trace(look.report, found, source=look.source)
