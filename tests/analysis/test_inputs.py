"""Pipelines, checkpoints, and Docs of all forms."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from spacy.language import Language
from spacy.tokens import DocBin

import spacy_bert
from spacy_bert.analysis.inputs import (
    load_pipeline,
    load_random,
    read_docs,
    read_examples,
    read_functions,
)

TREEBANK = (
    "1\tDogs\tdog\tNOUN\tNNS\t_\t2\tnsubj\t_\t_\n2\tbark\tbark\tVERB\tVBP\t_\t0\troot\t_\t_\n"
)
SQUAD = {
    "data": [
        {
            "paragraphs": [
                {
                    "context": "Dogs bark.",
                    "qas": [
                        {
                            "id": "1",
                            "question": "Who barks?",
                            "answers": [{"text": "Dogs", "answer_start": 0}],
                        }
                    ],
                }
            ]
        }
    ]
}


def test_the_same_network_at_random(checkpoint: Path) -> None:
    texts = "A list.", "Of numbers."
    one, again = (
        [spacy_bert.trace(load_random(str(checkpoint), seed=seed), text).hidden for text in texts]
        for seed in (0, 0)
    )
    known, other = (
        [spacy_bert.trace(nlp, text).hidden for text in texts]
        for nlp in (load_pipeline(str(checkpoint)), load_random(str(checkpoint), seed=1))
    )
    for i in range(2):
        np.testing.assert_array_equal(one[i], again[i])
        assert one[i].shape == known[i].shape
        assert not np.allclose(one[i], known[i], atol=0.1)
        assert not np.allclose(one[i], other[i], atol=0.1)


def test_pipelines_and_checkpoints(nlp: Language, checkpoint: Path, tmp_path: Path) -> None:
    nlp.to_disk(tmp_path / "pipeline")
    for path in (tmp_path / "pipeline", checkpoint):
        found = load_pipeline(str(path))
        assert found.pipe_names == ["bert"]
        assert spacy_bert.trace(found, "A list.").hidden.shape[0] == 3
    with pytest.raises(ValueError, match="is neither a saved pipeline"):
        load_pipeline("no_such_pipeline")


def test_docs_of_all_forms(nlp: Language, tmp_path: Path) -> None:
    spacy_file = tmp_path / "docs.spacy"
    doc = nlp.make_doc("Dogs bark.")
    doc.cats = {"A": 1.0}
    DocBin(docs=[doc, nlp.make_doc("")]).to_disk(spacy_file)
    (found,) = read_docs(nlp, spacy_file)
    assert found.cats == {"A": 1.0}

    lines = tmp_path / "texts.txt"
    lines.write_text("Dogs bark.\n\n  Cats sleep. \nOne more.\n", encoding="utf8")
    assert [d.text for d in read_docs(nlp, lines)] == ["Dogs bark.", "Cats sleep.", "One more."]
    assert len(read_docs(nlp, lines, limit=2)) == 2

    treebank = tmp_path / "trees.conllu.gz"
    with gzip.open(treebank, "wt", encoding="utf8") as stream:
        stream.write(TREEBANK + "\n" + TREEBANK)
    trees = read_docs(nlp, treebank)
    assert [token.dep_ for token in trees[1]] == ["nsubj", "ROOT"]

    questions = tmp_path / "squad.json"
    questions.write_text(json.dumps(SQUAD), encoding="utf8")
    (asked,) = read_docs(nlp, questions)
    assert [span.text for span in asked.spans["answers"]] == ["Dogs"]

    (example,) = read_examples(nlp, questions)
    assert example.predicted.text == asked.text
    assert not example.predicted.spans
    assert read_examples(nlp, spacy_file)[0].reference.cats == {"A": 1.0}


def test_what_cannot_be_read(nlp: Language, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"docs\.csv: must end in \.spacy, \.conllu"):
        read_docs(nlp, tmp_path / "docs.csv")
    with pytest.raises(ValueError, match="there is no such file"):
        read_docs(nlp, tmp_path / "docs.spacy")
    for name in ("docs.spacy", "texts.txt"):
        (tmp_path / name).write_bytes(b"\n")
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            read_docs(nlp, tmp_path / name)
    DocBin(docs=[]).to_disk(tmp_path / "docs.spacy")
    with pytest.raises(ValueError, match="holds no Docs"):
        read_examples(nlp, tmp_path / "docs.spacy")


def test_functions_of_python_files(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "a.py").write_text(
        "import re\n\n\nclass A:\n    @property\n    def one(self):\n        return 1\n\n\n"
        "async def two(x):\n    return x\n"
    )
    (folder / "b.py").write_text("X = 1\n")
    one, two = "@property\ndef one(self):\n    return 1\n", "async def two(x):\n    return x\n"
    assert sorted(read_functions([folder])) == [one, two]
    assert len(read_functions([folder / "a.py", folder], limit=3)) == 3
    with pytest.raises(ValueError, match="no function in any Python file"):
        read_functions([folder / "b.py"])
    assert any("def loads(" in code for code in read_functions([Path("json")]))
    with pytest.raises(ValueError, match="no_such_module: cannot be read as Python"):
        read_functions([Path("no_such_module")])
    (folder / "b.py").write_text("def (:\n")
    with pytest.raises(ValueError, match=r"b\.py: cannot be read as Python"):
        read_functions([folder])


def test_functions_stand_where_python_sees_them(tmp_path: Path) -> None:
    file = tmp_path / "odd.py"
    inside = 'def g(y):\n    s = """a\nb"""\n    return s\n'
    file.write_text(
        "x = 1\n\x0c\n" + inside + "class A:\n" + "    " + inside.replace("\n    ", "\n        ")
    )
    first, second = read_functions([file])
    assert first == inside
    assert second == 'def g(y):\n    s = """a\nb"""\n    return s\n'
    for encoded, name in (
        (("\ufeff" + inside).encode(), "bom"),
        (
            ("# -*- coding: latin-1 -*-\n" + inside.replace("a", "\xe4")).encode("latin-1"),
            "latin",
        ),
    ):
        (tmp_path / f"{name}.py").write_bytes(encoded)
        assert len(read_functions([tmp_path / f"{name}.py"])) == 1
