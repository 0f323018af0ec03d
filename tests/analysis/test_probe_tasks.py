"""Probing tasks of gold that readers leave on Docs: targets, and what of them is scored."""

from __future__ import annotations

from pathlib import Path

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin

from spacy_bert.analysis.probe_tasks import TASKS, Target, find_task
from spacy_bert.analysis.probe_training import ProbeRecipe
from spacy_bert.analysis.probing import probe
from spacy_bert.analysis.regression import QUANTITIES
from spacy_bert.cli.analyze_layers import NUMBERS
from spacy_bert.cli.analyze_layers import TASKS as NAMED
from spacy_bert.datasets.coreference import write_dpr
from spacy_bert.datasets.edges import write_edges
from spacy_bert.datasets.semeval2010 import write_semeval2010
from spacy_bert.datasets.trec import write_trec
from spacy_bert.datasets.writing import BadRows

READER = spacy.blank("en")
FAST = ProbeRecipe(epochs=1, rate=1e-3)

DPR = """The dog bit the cat because it was mean.
it
The dog,the cat
The dog
"""
SEMEVAL = (
    '1\t"The <e1>rain</e1> caused a <e2>flood</e2>."\nCause-Effect(e1,e2)\nComment:\n\n'
    '2\t"The <e1>boy</e1> saw a <e2>desk</e2>."\nOther\nComment:\n'
)
TREC = "LOC:city Where is it ?\nHUM:ind Who ran away ?\n"
SRL = (
    '{"text": "The dog barks", "targets": [{"span1": [2, 3], "span2": [0, 2], "label": "ARG0"},'
    ' {"span1": [2, 3], "span2": [0, 1], "label": ["R-ARG0", "ARGM-TMP"]}]}\n'
)
SINGLE = '{"text": "The dog barks", "targets": [{"span1": [0, 2], "label": ["NP", "X"]}]}\n'


def docs(directory: Path, name: str, text: str) -> list[Doc]:
    source, output = directory / "source.txt", directory / "docs.spacy"
    source.write_text(text, encoding="utf8")
    bad = BadRows()
    if name == "edges":
        write_edges(source, output, READER.vocab, bad)
    else:
        write = {"dpr": write_dpr, "semeval": write_semeval2010, "trec": write_trec}[name]
        write(source, output, READER, bad)
    return list(DocBin().from_disk(output).get_docs(READER.vocab))


def test_pronouns_and_candidates(tmp_path: Path) -> None:
    (doc,) = docs(tmp_path, "dpr", DPR)
    found = find_task("coreference").targets(doc)
    it = doc[6:7]
    assert it.text == "it"
    pronoun = (it.start, it.end)
    assert found == [Target((0, 2), pronoun, ("yes",)), Target((3, 5), pronoun, ("no",))]
    assert find_task("coreference").scored == {"yes"}


def test_mentions_without_a_pronoun_that_is_asked_about(nlp: Language) -> None:
    doc = Doc(nlp.vocab, words=["Ann", "met", "Bob", "and", "she", "left"])
    doc.spans["coref_clusters_1"] = [doc[4:5], doc[0:1]]
    doc.spans["coref_clusters_2"] = [doc[2:3]]
    doc.spans["other"] = [doc[5:6]]
    assert find_task("coreference").targets(doc) == [
        Target((0, 1), (2, 3), ("no",)),
        Target((0, 1), (4, 5), ("yes",)),
        Target((2, 3), (4, 5), ("no",)),
    ]


def test_relations(tmp_path: Path) -> None:
    first, second = docs(tmp_path, "semeval", SEMEVAL)
    task = find_task("relation")
    assert task.targets(first) == [Target((1, 2), (4, 5), ("Cause-Effect(e1,e2)",))]
    assert task.targets(second) == [Target((1, 2), (4, 5), ("Other",))]
    assert task.scored is not None
    assert "Cause-Effect(e1,e2)" in task.scored
    assert "Other" not in task.scored
    second.cats = {}
    assert task.targets(second) == []


def test_question_types(tmp_path: Path) -> None:
    found = [find_task("question-type").targets(doc) for doc in docs(tmp_path, "trec", TREC)]
    assert found == [
        [Target((0, 4), None, ("LOC:city",))],
        [Target((0, 4), None, ("HUM:ind",))],
    ]


def test_edges(tmp_path: Path) -> None:
    (doc,) = docs(tmp_path, "edges", SRL)
    found = find_task("edges").targets(doc)
    assert found == [
        Target((2, 3), (0, 2), ("ARG0",)),
        Target((2, 3), (0, 1), ("R-ARG0", "ARGM-TMP")),
    ]
    assert find_task("labelled-spans").targets(doc) == []
    roles = find_task("semantic-role")
    assert roles.targets(doc) == found
    assert roles.scored is not None
    assert {"ARG0", "ARGM-TMP", "R-ARG0"} & roles.scored == {"ARG0", "ARGM-TMP"}
    (doc,) = docs(tmp_path, "edges", SINGLE)
    assert find_task("edges").targets(doc) == []
    assert find_task("labelled-spans").targets(doc) == [Target((0, 2), None, ("NP", "X"))]


@pytest.mark.parametrize(
    ("task", "name", "text"),
    [
        ("coreference", "dpr", DPR),
        ("relation", "semeval", SEMEVAL),
        ("question-type", "trec", TREC),
        ("edges", "edges", SRL),
        ("semantic-role", "edges", SRL),
    ],
)
def test_they_are_probed(nlp: Language, tmp_path: Path, task: str, name: str, text: str) -> None:
    found = docs(tmp_path, name, text) * 40
    probed = probe(nlp, found, found[:4], find_task(task), recipe=FAST)
    assert probed.scores.layers.max() == 1.0  # the same few sentences
    assert probed.majority < 1.0


def test_a_task_whose_scored_labels_are_missing(nlp: Language, tmp_path: Path) -> None:
    other = SEMEVAL.replace("Cause-Effect(e1,e2)", "Other")
    found = docs(tmp_path, "semeval", other)
    found[0].cats = {"Another": 1.0}
    with pytest.raises(ValueError, match="no training target of 'relation' has a label that is sc"):
        probe(nlp, found, found, find_task("relation"), recipe=FAST)


def test_the_command_names_all_tasks() -> None:
    assert NAMED.replace("or morph:FEATURE", "").strip(", ").split(", ") == list(TASKS)
    assert NUMBERS.split(", ") == list(QUANTITIES)
