"""`spacy pretrain`, `spacy train` and `convert` with our objective, as a user types them."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import spacy
import srsly
import torch
from spacy.cli._util import parse_config_overrides
from spacy.cli.init_config import fill_config
from spacy.language import Language
from spacy.tokens import DocBin, Span
from spacy.training.initialize import init_nlp
from spacy.util import load_config, registry
from transformers import AutoTokenizer
from transformers import BertModel as HfModel
from typer.testing import CliRunner

from spacy_bert.bert import load_encoder
from spacy_bert.cli.app import app as bert
from spacy_bert.models.conversion import convert
from spacy_bert.models.encoder import build_encoder, encoder_shim
from spacy_bert.models.optimizer import AdamW
from spacy_bert.wordpiece import WordPiece
from tests.bert.test_checkpoint import assert_same
from tests.conftest import SENTENCES
from tests.pipeline.lifecycle import command, encoder_weights, same_arrays

CONFIG = Path(__file__).parents[2] / "configs" / "spacy_pretrain.cfg"


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw text: thirty documents of one to five lines."""
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    lines = [SENTENCES[i % 5 :] + SENTENCES[: i % 3] for i in range(30)]
    srsly.write_jsonl(path, [{"text": "\n".join(one)} for one in lines])
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Docs with entities."""
    path = tmp_path_factory.mktemp("data") / "train.spacy"
    docs = [spacy.blank("en")(text) for text in SENTENCES * 4]
    for doc in docs:
        doc.ents = [Span(doc, 0, 2, "START")]
    DocBin(docs=docs).to_disk(path)
    return path


@pytest.fixture(scope="module")
def options(checkpoint: Path, texts: Path, data: Path) -> dict[str, str]:
    """Overrides that make everything small; each of the three epochs has five batches or so."""
    return {
        "--paths.encoder": str(checkpoint),
        "--paths.raw_text": str(texts),
        "--paths.train": str(data),
        "--paths.dev": str(data),
        "--pretraining.batcher.size": "200",
        "--pretraining.objective.sequence_length": "64",
        "--pretraining.optimizer.learn_rate.initial_rate": "0.002",
        "--pretraining.optimizer.learn_rate.warmup_steps": "2",
        "--training.max_steps": "2",
        "--training.eval_frequency": "2",
    }


def flat(options: dict[str, str]) -> list[str]:
    return [part for option in options.items() for part in option]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory, options: dict[str, str]) -> Path:
    """What `spacy pretrain` left."""
    folder = tmp_path_factory.mktemp("pretrained") / "out"
    command("pretrain", CONFIG, folder, *flat(options))
    return folder


def run(*arguments: str | Path) -> str:
    """Run `python -m spacy bert ...` in this process; what it printed."""
    done = CliRunner().invoke(bert, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def network(file: Path) -> dict[str, np.ndarray]:
    """The weights in a file of `spacy pretrain`."""
    model = build_encoder().from_bytes(file.read_bytes())
    return {k: v.numpy() for k, v in encoder_shim(model).network.state_dict().items()}


def initialized(options: dict[str, str], file: Path) -> Language:
    """The pipeline as `spacy train` has it before its first update."""
    values = parse_config_overrides([*flat(options), "--paths.init_tok2vec", str(file)])
    return init_nlp(load_config(CONFIG, values, interpolate=False))


def test_pretraining_saves_every_epoch_and_learns(pretrained: Path, checkpoint: Path) -> None:
    assert {file.name for file in pretrained.glob("*.bin")} == {
        "model0.bin",
        "model1.bin",
        "model2.bin",
        "model-last.bin",
    }
    losses = [line["epoch_loss"] for line in srsly.read_jsonl(pretrained / "log.jsonl")]
    assert losses[2] < losses[0] - 1
    start = {k: v.numpy() for k, v in load_encoder(checkpoint).state_dict().items()}
    last = network(pretrained / "model-last.bin")
    for name in ("embeddings.piece.weight", "layers.1.attention.qkv.weight", "pooler.dense.weight"):
        assert not np.array_equal(last[name], start[name]), name


def test_the_same_command_gives_the_same_weights(
    pretrained: Path, options: dict[str, str], tmp_path: Path
) -> None:
    command("pretrain", CONFIG, tmp_path / "again", *flat(options))
    for name in ("model0.bin", "model-last.bin"):
        assert (tmp_path / "again" / name).read_bytes() == (pretrained / name).read_bytes()


def test_training_starts_from_the_last_weights(
    pretrained: Path, options: dict[str, str], tmp_path: Path
) -> None:
    file = pretrained / "model-last.bin"
    assert same_arrays(encoder_weights(initialized(options, file)), network(file))
    still = {
        **options,
        "--paths.init_tok2vec": str(file),
        "--training.optimizer.learn_rate.initial_rate": "0.0",
    }
    command("train", CONFIG, "--output", tmp_path / "still", *flat(still))
    trained = spacy.load(tmp_path / "still" / "model-last")
    assert same_arrays(encoder_weights(trained), network(file))
    del still["--training.optimizer.learn_rate.initial_rate"]
    command("train", CONFIG, "--output", tmp_path / "model", *flat(still))
    trained = spacy.load(tmp_path / "model" / "model-last")
    assert not same_arrays(encoder_weights(trained), network(file))
    assert trained.get_pipe("bert_ner").labels == ("START",)


def test_pretraining_is_resumed(pretrained: Path, options: dict[str, str], tmp_path: Path) -> None:
    """With a rate of 0 the weights stay those that it goes on from."""
    still = {**options, "--pretraining.optimizer.learn_rate.initial_rate": "0.0"}
    source = pretrained / "model1.bin"
    printed = command("pretrain", CONFIG, tmp_path, "--resume-path", source, *flat(still))
    assert "Resuming from epoch: 2" in printed
    assert {file.name for file in tmp_path.glob("*.bin")} == {"model2.bin", "model-last.bin"}
    assert same_arrays(network(tmp_path / "model-last.bin"), network(source))
    resume = ("--resume-path", pretrained / "model-last.bin", "--epoch-resume", "1")
    command("pretrain", CONFIG, tmp_path / "more", *resume, *flat(options))
    (first, *_) = srsly.read_jsonl(tmp_path / "more" / "log.jsonl")
    (fresh, *_) = srsly.read_jsonl(pretrained / "log.jsonl")
    assert first["epoch_loss"] < fresh["epoch_loss"]


@pytest.mark.parametrize("averages", [True, False])
def test_thincs_optimizer_serves_too(
    options: dict[str, str], tmp_path: Path, averages: bool
) -> None:
    config = load_config(CONFIG, parse_config_overrides(flat(options)))
    config["pretraining"]["optimizer"] = {
        "@optimizers": "Adam.v1",
        "learn_rate": 0.001,
        "use_averages": averages,
    }
    config["pretraining"]["max_epochs"] = 1
    config.to_disk(tmp_path / "config.cfg")
    command("pretrain", tmp_path / "config.cfg", tmp_path / "out")
    assert (tmp_path / "out" / "model-last.bin").is_file()


class TestConversion:
    """Files of weights and directories."""

    def test_weights_become_a_hugging_face_directory(
        self, pretrained: Path, wordpiece: WordPiece, tmp_path: Path
    ) -> None:
        file, out = pretrained / "model-last.bin", tmp_path / "out"
        printed = run("convert", file, out)
        assert "2 layers, hidden size 128" in printed
        assert f"{len(wordpiece)} pieces, uncased" in printed
        assert same_arrays(
            {k: v.numpy() for k, v in load_encoder(out).state_dict().items()}, network(file)
        )
        theirs, report = HfModel.from_pretrained(out, output_loading_info=True)
        assert not report["missing_keys"]
        ids = AutoTokenizer.from_pretrained(out)(SENTENCES[3], return_tensors="pt")
        assert ids.input_ids[0, 1:-1].tolist() == wordpiece.encode_ids(SENTENCES[3:4])[0].tolist()
        nlp = spacy.blank("en")
        nlp.add_pipe("bert", config={"model": {"name": str(out)}})
        found = nlp(SENTENCES[3])._.trf_data.model_output.last_hidden_state[0]
        with torch.inference_mode():
            expected = theirs.eval()(**ids).last_hidden_state[0].numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_and_back(
        self, pretrained: Path, options: dict[str, str], tmp_path: Path, checkpoint: Path
    ) -> None:
        file = pretrained / "model-last.bin"
        convert(file, tmp_path / "out")
        convert(tmp_path / "out", tmp_path / "weights.bin")
        assert same_arrays(network(tmp_path / "weights.bin"), network(file))
        # One with heads, which such a file has no place for.
        printed = run("convert", checkpoint, tmp_path / "first.bin")
        assert "the encoder alone, without the heads of pre-training\n" in printed
        start = {k: v.numpy() for k, v in load_encoder(checkpoint).state_dict().items()}
        nlp = initialized(options, tmp_path / "first.bin")
        assert same_arrays(encoder_weights(nlp), start)
        done = convert(tmp_path / "first.bin", tmp_path / "third.bin")
        assert (done.heads, done.pooler, done.cased, done.left_behind) == (False, True, False, [])
        assert (tmp_path / "third.bin").read_bytes() == (tmp_path / "first.bin").read_bytes()

    def test_the_case_may_be_chosen_for_a_directory(self, checkpoint: Path, tmp_path: Path) -> None:
        assert convert(checkpoint, tmp_path / "cased.bin", cased=True).cased is True
        assert convert(tmp_path / "cased.bin", tmp_path / "out").cased is True

    def test_an_encoder_inside_another_component(self, checkpoint: Path, tmp_path: Path) -> None:
        architecture = registry.architectures.get("spacy_bert.TokenEncoder.v1")
        model = architecture(build_encoder(name=str(checkpoint)))
        model.initialize()
        (tmp_path / "ner.bin").write_bytes(model.to_bytes())
        convert(tmp_path / "ner.bin", tmp_path / "out")
        assert_same(load_encoder(tmp_path / "out"), load_encoder(checkpoint))

    @pytest.mark.parametrize("kind", ["text", "msgpack", "tok2vec", "torch", "empty"])
    def test_other_files_are_refused(self, tmp_path: Path, kind: str) -> None:
        file = tmp_path / "other.bin"
        if kind == "torch":
            torch.save({"a": torch.zeros(1)}, file)
        else:
            tok2vec = spacy.blank("en").add_pipe("tok2vec")
            tok2vec.model.initialize()
            file.write_bytes(
                {
                    "text": b"just text",
                    "msgpack": srsly.msgpack_dumps([1, 2]),
                    "tok2vec": tok2vec.model.to_bytes(),
                    "empty": b"",
                }[kind]
            )
        with pytest.raises(ValueError, match=rf"^{re.escape(str(file))}: is no file of weights"):
            convert(file, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_a_truncated_file_is_refused(self, pretrained: Path, tmp_path: Path) -> None:
        file = tmp_path / "model-last.bin"
        file.write_bytes((pretrained / "model-last.bin").read_bytes()[:-1000])
        with pytest.raises(ValueError, match="is no file of weights"):
            convert(file, tmp_path / "out")
        message = srsly.msgpack_loads((pretrained / "model-last.bin").read_bytes())
        shim = srsly.msgpack_loads(message["shims"][0][0])
        message["shims"] = [[srsly.msgpack_dumps({**shim, "weights": shim["weights"][:-9]})]]
        file.write_bytes(srsly.msgpack_dumps(message))
        with pytest.raises(ValueError, match=r"model-last\.bin: The saved weights are damaged"):
            convert(file, tmp_path / "out")

    def test_what_stands_at_the_output_is_safe(
        self, pretrained: Path, checkpoint: Path, tmp_path: Path
    ) -> None:
        file, out = pretrained / "model-last.bin", tmp_path / "weights.bin"
        convert(checkpoint, out)
        with pytest.raises(FileExistsError, match="is there already; name another, or give"):
            convert(checkpoint, out)
        convert(file, out, overwrite=True)
        assert same_arrays(network(out), network(file))
        with pytest.raises(FileExistsError, match="is the source itself"):
            convert(out, out, overwrite=True)
        (tmp_path / "folder.bin").mkdir()
        with pytest.raises(FileExistsError, match=r"is a directory; .* in \.bin is for a file$"):
            convert(file, tmp_path / "folder.bin")

    def test_mistaken_options(self, pretrained: Path, tmp_path: Path) -> None:
        file = pretrained / "model-last.bin"
        with pytest.raises(ValueError, match="a file of weights, whose tokenizer fixes the case"):
            convert(file, tmp_path / "out", cased=True)
        with pytest.raises(ValueError, match="is no saved pipeline; leave --component out"):
            convert(file, tmp_path / "out", component="bert")


def test_the_config_is_complete(tmp_path: Path) -> None:
    before, after = fill_config(tmp_path / "filled.cfg", CONFIG, pretraining=True, silent=True)
    assert before.to_str() == after.to_str()
    config = load_config(CONFIG, interpolate=True)["pretraining"]
    for part in ("objective", "optimizer"):
        settings = dict(config[part])
        name = next(key for key in settings if key.startswith("@"))
        made = registry.get(name[1:], settings.pop(name))
        assert settings.keys() == inspect.signature(made).parameters.keys(), part
    resolved = registry.resolve(config)
    assert isinstance(resolved["optimizer"], AdamW)
