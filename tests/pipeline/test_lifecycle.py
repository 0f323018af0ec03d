"""One shared encoder with all kinds of components: predictions survive whatever spaCy does."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Span

from spacy_bert.models.encoder import encoder_shim
from tests.pipeline.conftest import Trained
from tests.pipeline.lifecycle import (
    LISTENERS,
    ODD_TEXTS,
    PIPELINE,
    TEXTS,
    assert_close,
    command,
    encoder_weights,
    examples,
    predict,
    same_arrays,
    say,
    sourced,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def nlp(trained: Trained) -> Language:
    """The trained pipeline, loaded anew."""
    return spacy.load(trained.path)


def run_python(code: str, *arguments: str | Path, path: Path = ROOT, timeout: int = 120) -> str:
    """Run code in a process of its own; a hang fails."""
    search = os.pathsep.join([str(path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": search},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_pipeline_has_learned_what_the_other_tests_compare(trained: Trained) -> None:
    scores = trained.nlp.evaluate(examples(trained.nlp))
    for name in ("tag_acc", "dep_las", "ents_f", "cats_macro_f"):
        assert scores[name] > 0.9, (name, scores[name])
    assert any(len(set(said["cats"].values())) > 1 for said in trained.said)


# Saving and loading


def test_predictions_survive_the_disk(trained: Trained, nlp: Language) -> None:
    assert predict(nlp) == trained.said


def test_predictions_survive_bytes(trained: Trained) -> None:
    config = trained.nlp.config.copy()
    config["paths"]["encoder"] = "/no/such/place"
    other = spacy.util.load_model_from_config(config, auto_fill=True)
    other.from_bytes(trained.nlp.to_bytes())
    assert predict(other) == trained.said


def test_predictions_survive_pickle(trained: Trained) -> None:
    assert predict(pickle.loads(pickle.dumps(trained.nlp))) == trained.said


def test_predictions_survive_packaging(trained: Trained, tmp_path: Path) -> None:
    from spacy.cli.package import has_build, has_wheel, package

    wheel = has_build() or has_wheel()
    package(trained.path, tmp_path, name="lives", create_sdist=not wheel, create_wheel=wheel)
    (archive,) = tmp_path.glob("*/dist/*")
    meta = json.loads((tmp_path / "en_lives-0.0.0" / "meta.json").read_text())
    needed = {name.split(">")[0] for name in meta["requirements"]}
    # Whoever installs the pipeline needs us. (spaCy reads it off our distribution's top_level.txt.)
    assert needed == {"spacy-bert", "spacy-transformers"}
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(tmp_path / "in")]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", *options, str(archive)], check=True
    )
    code = (
        "import json, spacy; from tests.pipeline.lifecycle import predict; "
        "print(json.dumps(predict(spacy.load('en_lives'))))"
    )
    assert json.loads(run_python(code, path=tmp_path / "in")) == trained.said


def test_predictions_survive_assembling(trained: Trained, tmp_path: Path) -> None:
    sourced(trained.path, PIPELINE).to_disk(tmp_path / "config.cfg")
    command("assemble", tmp_path / "config.cfg", tmp_path / "model")
    assert predict(spacy.load(tmp_path / "model")) == trained.said


def test_training_goes_on_from_a_saved_pipeline(nlp: Language) -> None:
    before = encoder_weights(nlp)
    losses = nlp.update(examples(nlp)[:8], sgd=nlp.resume_training(), losses={})
    assert losses.keys() == set(PIPELINE)
    assert not same_arrays(encoder_weights(nlp), before)


# Settings and parts at loading


@pytest.mark.parametrize(
    ("setting", "value"), [("max_batch_pieces", 40), ("window", 40), ("stride", 20)]
)
def test_encoder_settings_are_overridden_at_load(
    trained: Trained, setting: str, value: int
) -> None:
    changed = spacy.load(trained.path, config={f"components.bert.model.{setting}": value})
    assert getattr(encoder_shim(changed.get_pipe("bert").model).settings, setting) == value
    assert_close(predict(changed), trained.said)  # these sentences fit any window


def test_the_threshold_is_overridden_at_load(trained: Trained) -> None:
    strict = spacy.load(trained.path, config={"components": {"bert_textcat": {"threshold": 1.0}}})
    assert strict.get_pipe("bert_textcat").cfg["threshold"] == 1.0
    assert predict(strict) == trained.said  # it is the scorer's, probabilities stay


@pytest.mark.parametrize("how", ["exclude", "disable"])
@pytest.mark.parametrize("name", LISTENERS)
def test_a_component_is_left_out(trained: Trained, name: str, how: str) -> None:
    partial: Any = {how: [name]}
    fewer = spacy.load(trained.path, **partial)
    assert name not in fewer.pipe_names
    parts = {
        "bert_textcat": ["cats"],
        "bert_ner": ["ents", "scores"],
        "tagger": ["tags"],
        "parser": ["heads", "deps"],
    }
    for said, whole in zip(predict(fewer), trained.said, strict=True):
        for part in (key for other, keys in parts.items() for key in keys if other != name):
            assert said[part] == whole[part]
        for part in parts[name]:
            assert said[part] != whole[part]


@pytest.mark.parametrize("how", ["exclude", "disable"])
@pytest.mark.parametrize("name", ["bert_textcat", "bert_ner"])
def test_without_the_encoder_there_is_an_error_and_no_zeros(
    trained: Trained, name: str, how: str
) -> None:
    others = [other for other in LISTENERS if other != name]
    partial: Any = {how: ["bert", *others]}
    headless = spacy.load(trained.path, **partial)
    with pytest.raises(ValueError, match=f"'{name}' reads what the shared encoder leaves"):
        headless(TEXTS[0])
    with pytest.raises(ValueError, match='enable the component "bert"'):
        list(headless.pipe(TEXTS))


# Several processes


N_PROCESS = """
import sys
import numpy as np, spacy, torch
from tests.pipeline.lifecycle import ODD_TEXTS, TEXTS, assert_close, say
torch.set_num_threads(2)
nlp = spacy.load(sys.argv[1])
texts = TEXTS[:16] + ODD_TEXTS
one = list(nlp.pipe(texts, batch_size=7))
two = list(nlp.pipe(texts, batch_size=7, n_process=2))
assert_close(say(one), say(two))
for ours, theirs in zip(one, two):
    if len(ours):  # two threads add up in another order than one
        states = [doc._.trf_data.model_output.last_hidden_state for doc in (ours, theirs)]
        assert np.abs(states[0] - states[1]).max() < 1e-5
print(torch.get_num_threads())
"""


def test_two_processes_say_the_same_even_if_torch_had_threads(trained: Trained) -> None:
    assert run_python(N_PROCESS, trained.path).split()[-1] == "2"


# Docs of all kinds


def test_odd_docs_are_the_same_alone_and_among_others(nlp: Language) -> None:
    texts = [TEXTS[0], *ODD_TEXTS, TEXTS[1]]
    alone = [said for text in texts for said in say([nlp(text)])]
    assert_close(predict(nlp, texts), alone)
    assert [said["ents"] for text, said in zip(texts, alone, strict=True) if not text.strip()] == [
        [],
        [],
        [],
    ]
    assert all(sum(said["cats"].values()) == pytest.approx(1.0, abs=1e-6) for said in alone)


@pytest.mark.parametrize("texts", [[text] for text in ODD_TEXTS] + [ODD_TEXTS, ["", " "]])
def test_odd_docs_can_be_trained_on(nlp: Language, texts: list[str]) -> None:
    optimizer = nlp.resume_training()
    golds = []
    for text in texts:
        gold = nlp.make_doc(text)
        gold.cats = {"LIVING": 1.0, "OTHER": 0.0}
        for token in gold:
            token.tag_ = "NN"
            token.dep_ = "ROOT"
        golds.append(gold)
    for batch in (golds, [*golds, *(example.reference for example in examples(nlp)[:2])]):
        losses: dict[str, float] = {}
        nlp.update(examples(nlp, batch), sgd=optimizer, losses=losses)
        assert all(np.isfinite(loss) for loss in losses.values()), losses
    assert all(np.isfinite(array).all() for array in encoder_weights(nlp).values())


def test_running_twice_over_a_doc_says_the_same(trained: Trained, nlp: Language) -> None:
    docs = [nlp(nlp(text)) for text in TEXTS[:4]]
    assert_close(say(docs), trained.said[:4])


def test_entities_that_stand_are_kept(nlp: Language) -> None:
    ruler = nlp.add_pipe("entity_ruler", before="bert_ner")
    ruler.add_patterns([{"label": "THING", "pattern": "the dog"}])
    doc = nlp("The quick fox jumps the dog in Paris.")
    found = {(ent.text, ent.label_) for ent in doc.ents}
    assert found == {("quick fox", "ANIMAL"), ("the dog", "THING"), ("Paris", "PLACE")}
    group = doc.spans["ents"]
    assert len(group) == len(group.attrs["scores"])
    preset = nlp.make_doc("The quick fox jumps the dog in Paris.")
    preset.ents = [Span(preset, 2, 4, label="MINE")]
    assert ("fox jumps", "MINE") in {(ent.text, ent.label_) for ent in nlp(preset).ents}


def test_evaluating_twice_gives_the_same_and_changes_nothing(
    trained: Trained, nlp: Language
) -> None:
    gold = examples(nlp)
    first, second = nlp.evaluate(gold), nlp.evaluate(gold)
    del first["speed"], second["speed"]
    assert first == second
    assert predict(nlp) == trained.said


# Encoders of one's own


@pytest.mark.parametrize("name", LISTENERS)
def test_replaced_listeners_say_the_same(
    trained: Trained, nlp: Language, tmp_path: Path, name: str
) -> None:
    nlp.replace_listeners("bert", name, ["model.tok2vec"])
    assert name not in nlp.get_pipe("bert").listening_components
    assert predict(nlp) == trained.said
    nlp.to_disk(tmp_path)
    assert predict(spacy.load(tmp_path)) == trained.said


def test_the_shared_encoder_can_go_when_nobody_listens(
    trained: Trained, nlp: Language, tmp_path: Path
) -> None:
    for name in LISTENERS:
        nlp.replace_listeners("bert", name, ["model.tok2vec"])
    nlp.remove_pipe("bert")
    assert nlp.pipe_names == LISTENERS
    assert predict(nlp) == trained.said
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    assert predict(loaded) == trained.said
    losses = loaded.update(examples(loaded)[:4], sgd=loaded.resume_training(), losses={})
    assert losses.keys() == set(LISTENERS)
