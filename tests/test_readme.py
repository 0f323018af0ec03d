"""The README's examples run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.cli.init_config import fill_config
from spacy.cli.train import train
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from spacy.util import load_config, load_model_from_config, registry
from thinc.api import Config

from spacy_bert.pretraining.config import PretrainConfig

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def block(language: str, part: str) -> str:
    (found,) = (text for text in blocks(language) if part in text)
    return found


def test_python_examples_run(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for example in blocks("python"):
        # A tiny network that has learned nothing yet wants a higher rate.
        text = example.replace("5e-5", "5e-3")
        exec(text.replace("bert-base-uncased", str(checkpoint)), names)
        if "Does it rain?" in example:
            segments = [span.text for span in names["doc"]._.segments]
            assert segments == ["Does it rain?", "It is raining."]
        if "bert_ner" in example and "add_pipe" in example:
            found = [(ent.text, ent.label_) for ent in names["doc"].ents]
            assert found == [("Ada Lovelace", "PERSON"), ("London", "PLACE")]
        if "bert_span_qa" in example:
            answer = names["answer"]
            assert (answer.text, answer.start_char) == ("London", 22)
        if "bert_choice" in example:
            assert names["best"] == 1
            assert names["doc"]._.choice == 0
            assert names["doc"]._.choice_scores == pytest.approx(
                names["probabilities"][::-1], abs=1e-5
            )
    assert (tmp_path / "train.spacy").is_file()
    assert names["ner"].labels == ("PERSON", "PLACE")
    assert "TokenEncoder" in str(names["nlp"].config["components"]["bert_ner"])


def test_a_private_encoder_is_configured_as_shown(checkpoint: Path) -> None:
    text = block("ini", "TokenEncoder").replace("bert-base-uncased", str(checkpoint))
    model = Config().from_str(text.replace("components.bert_ner.model.", ""))
    nlp = spacy.blank("en")
    nlp.add_pipe("bert_ner", config={"model": dict(model)})
    nlp.get_pipe("bert_ner").add_label("X")
    nlp.initialize()
    assert len(nlp("two words")) == 2


def test_features_are_configured_as_shown(checkpoint: Path) -> None:
    text = block("ini", "LayerFeatures").replace("bert-base-uncased", str(checkpoint))
    text = text.replace("[-4, -3, -2, -1]", "[-2, -1]")  # of as many layers as there are
    model = Config().from_str(text.replace("components.bert_ner.model.", ""))
    nlp = spacy.blank("en")
    nlp.add_pipe("bert_ner", config={"model": dict(model)})
    nlp.get_pipe("bert_ner").add_label("X")
    nlp.initialize(lambda: [Example(nlp.make_doc("two words"), nlp.make_doc("two words"))])
    assert len(nlp("two words")) == 2


def test_lines_of_the_first_example_show_what_they_say(checkpoint: Path) -> None:
    names: dict[str, Any] = {}
    exec(blocks("python")[0].replace("bert-base-uncased", str(checkpoint)), names)
    data = names["doc"]._.trf_data
    assert data.wordpieces.strings[0][0] == "[CLS]"
    assert data.model_output.last_hidden_state.shape[:2] == (1, len(data.wordpieces.strings[0]))
    assert data.align[0].dataXd[0] == 1


def test_the_training_config_can_be_filled(tmp_path: Path) -> None:
    base, filled = tmp_path / "base.cfg", tmp_path / "config.cfg"
    base.write_text(block("ini", "bert_textcat"), encoding="utf8")
    fill_config(filled, base, silent=True)
    config = load_config(filled, interpolate=True)
    assert config["training"]["optimizer"]["learn_rate"]["total_steps"] == 1000
    nlp = load_model_from_config(load_config(filled))
    assert nlp.create_optimizer().layer_decay == 1.0
    for line in README.split("\n"):
        setting = re.match(r"\| `(\w+)` \| `(.+)` \|", line)
        if setting and setting[1] in config["components"]["bert"]["model"]:
            value = config["components"]["bert"]["model"][setting[1]]
            shown = "null" if value is None else str(value).lower()
            assert shown == setting[2].strip('"').lower()


def test_bert_ner_trains_on_joined_texts(checkpoint: Path, tmp_path: Path) -> None:
    """The config of the classifier, with `bert_ner` in its place, and the reader's section."""
    base, filled, data = (tmp_path / name for name in ("base.cfg", "config.cfg", "train.spacy"))
    text = block("ini", "bert_textcat").replace("bert_textcat", "bert_ner")
    base.write_text(f"{text}\n{block('ini', 'JoinedCorpus')}", encoding="utf8")
    fill_config(filled, base, silent=True)
    vocab = spacy.blank("en").vocab
    words, ents = ["Ada", "lived", "in", "London"], ["B-PERSON", "O", "O", "B-PLACE"]
    DocBin(docs=[Doc(vocab, words=words, ents=ents)] * 12).to_disk(data)
    overrides = {
        "paths.train": str(data),
        "paths.dev": str(data),
        "components.bert.model.name": str(checkpoint),
        "training.max_steps": 3,
        "training.eval_frequency": 1,
    }
    train(filled, tmp_path / "model", overrides=overrides)
    nlp = spacy.load(tmp_path / "model" / "model-last")
    assert nlp.get_pipe("bert_ner").labels == ("PERSON", "PLACE")
    config = load_config(filled, overrides, interpolate=True)
    joined = registry.resolve(config["corpora"])["train"](nlp)
    assert max(len(example.reference) for example in joined) > len(words)


def test_the_pretraining_config_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "pretrain.cfg"
    file.write_text(block("ini", "[data]"), encoding="utf8")
    config = PretrainConfig.load(file, {"training.steps": 5000})
    assert config.model.hidden_size == 256
    assert config.training.steps == 5000
