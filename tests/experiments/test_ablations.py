"""Ablation studies from beginning to end: tiny arms, commands run in this process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import spacy
from spacy.tokens import DocBin
from spacy.util import load_config, registry
from typer.testing import CliRunner

from spacy_bert.bert import load_config as load_bert_config
from spacy_bert.bert import load_encoder
from spacy_bert.cli.app import app
from spacy_bert.experiments.arm_configs import arm_config, read_config
from spacy_bert.experiments.processes import Processes
from spacy_bert.experiments.studies import NER, NER_FEATURES, TEXTCAT
from spacy_bert.models.encoder import encoder_shim
from spacy_bert.pretraining.building import write_shards
from spacy_bert.pretraining.corpus import TextCorpus
from spacy_bert.wordpiece import WordPiece
from tests.pipeline import lifecycle
from tests.pretraining.conftest import NOUNS, make_documents, write_corpus

CONFIGS = Path(__file__).parents[2] / "configs"
PRETRAINING = """
[paths]
shards = "shards"
tokenizer = "tokenizer"
[model]
num_hidden_layers = 1
hidden_size = 8
num_attention_heads = 2
intermediate_size = 16
max_position_embeddings = 64
[data]
shards = ${paths.shards}
tokenizer = ${paths.tokenizer}
sequence_length = 32
batch_pieces = 128
[masking]
share = 0.15
[training]
steps = 2
device = "cpu"
evaluate_pieces = 1000
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with shards, tokenizer, labelled sets and configs."""
    folder = tmp_path_factory.mktemp("work")
    corpus = TextCorpus(write_corpus(folder / "corpus.txt", make_documents(120)))
    wordpiece = WordPiece.train(corpus.sentences(), vocab_size=150)
    wordpiece.save(folder / "tokenizer")
    write_shards(corpus, folder / "shards", wordpiece, dev_share=0.3)
    nlp = spacy.blank("en")
    docs = {"textcat": DocBin(), "ner": DocBin()}
    for i, noun in enumerate(NOUNS):
        text = f"the {noun} sees the river"
        doc = nlp.make_doc(text)
        doc.cats = {"A": float(i % 2), "B": float(1 - i % 2)}
        docs["textcat"].add(doc)
        doc = nlp.make_doc(text)
        doc.set_ents([doc.char_span(4, 4 + len(noun), "NOUN")])
        docs["ner"].add(doc)
    for task, split in ((task, split) for task in docs for split in ("train", "dev", "test")):
        (folder / "corpus" / task).mkdir(parents=True, exist_ok=True)
        docs[task].to_disk(folder / "corpus" / task / f"{split}.spacy")
    (folder / "pretrain.cfg").write_text(PRETRAINING, encoding="utf8")
    for task in docs:
        config = load_config(CONFIGS / f"{task}.cfg", interpolate=False)
        config["training"] |= {"max_steps": 1, "eval_frequency": 1}
        config.to_disk(folder / f"{task}.cfg", interpolate=False)
    return folder


@pytest.fixture
def work(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, the current directory."""
    shutil.copytree(made, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that ran, in this process instead of their own."""
    ran: list[list[str]] = []

    def run(self: Processes, arguments: list[str], log: Path) -> None:
        ran.append(arguments)
        if arguments[:2] == ["spacy", "bert"]:
            done = CliRunner().invoke(app, arguments[2:])
            if done.exit_code:
                raise ChildProcessError(done.output)
        else:
            lifecycle.command(*arguments[1:])

    monkeypatch.setattr(Processes, "run", run)
    return ran


def ablate(study: str, *options: str):
    return CliRunner().invoke(
        app,
        ["ablate", study, "out", "--config", "pretrain.cfg", "--textcat", "textcat.cfg",
         "--ner", "ner.cfg", *options],
    )  # fmt: skip


def test_tasks_from_beginning_to_end(work: Path, commands: list[list[str]]) -> None:
    done = ablate("tasks")
    assert done.exit_code == 0, done.output
    # Three runs for five arms; each arm is trained and evaluated on two tasks.
    assert len(commands) == 3 + 5 * 2 * 2
    ltr = load_bert_config(Path("out/pretrained/ltr/model-last"))
    assert ltr.is_decoder
    for shown in (
        "LTR & no NSP + BiLSTM",
        "84.9",
        "77.5",
        "table 5",
        "majority",
        "no pre-training",
    ):
        assert shown in done.output
    page = Path("out/report/index.html").read_text(encoding="utf8")
    assert "LTR &amp; no NSP + BiLSTM" in page
    assert Path("out/report/textcat.png").is_file()
    record = json.loads(Path("out/report/report.json").read_text(encoding="utf8"))
    base, *_ = rows = record["tables"]["arms"]["rows"]
    assert base["arm"] == "base"
    assert base["paper SQuAD F1"] == 88.5
    assert [row["steps"] for row in rows[:5]] == [2, 2, 2, 2, 0]
    scores = json.loads(Path("out/metrics/ner/base-0.json").read_text())
    assert base["NER F1"] == scores["ents_f"]
    nlp = spacy.load("out/training/textcat/ltr-bilstm-0/model-best")
    assert "bilstm" in [node.name for node in nlp.get_pipe("bert_textcat").model.walk()]

    # Nothing has changed: nothing is done. Then one input changes.
    commands.clear()
    again = ablate("tasks")
    assert again.exit_code == 0, again.output
    assert not commands
    assert again.output.count("done before") == 3 + 5 * 2 + 2
    config = load_config("ner.cfg", interpolate=False)
    config["training"]["dropout"] = 0.2
    config.to_disk("ner.cfg", interpolate=False)
    shutil.rmtree("out/pretrained/ltr")
    assert ablate("tasks", "--arm", "ltr").exit_code == 0
    kinds = [command[1] for command in commands]
    assert kinds == ["bert", "train", "evaluate"]
    assert commands[1][2].startswith("out/training/ner/ltr-0/")


def test_what_was_begun_is_gone_on_with(work: Path, commands: list[list[str]]) -> None:
    options = ("--arm", "random", "--training.seed", "3")
    assert ablate("tasks", *options).exit_code == 0
    Path("out/pretrained/mlm-nsp/metrics.json").unlink()
    Path("out/metrics/ner/random-0.json").unlink()
    commands.clear()
    assert ablate("tasks", *options).exit_code == 0
    assert [command[1] for command in commands] == ["bert", "train", "evaluate"]
    assert "--resume" in commands[0]
    # Other settings: the old run would not go on with them, and is made anew.
    commands.clear()
    assert ablate("tasks", *options, "--steps", "3").exit_code == 0
    assert commands[0][1] == "bert"
    assert json.loads(Path("out/pretrained/mlm-nsp/metrics.json").read_text())["steps"] == 3


def test_steps_start_from_kept_checkpoints(work: Path, commands: list[list[str]]) -> None:
    arms = [part for name in ("random", "ltr-2", "ltr-8") for part in ("--arm", name)]
    done = ablate("steps", "--steps", "9", *arms)
    assert done.exit_code == 0, done.output
    assert "about +1.0 on MNLI" in done.output
    config = load_config("out/training/textcat/ltr-2-0/config.cfg")
    assert config["paths"]["encoder"] == "out/pretrained/ltr/checkpoints/step-00000002"
    assert config["components"]["bert"]["model"]["name"] == config["paths"]["encoder"]
    rows = json.loads(Path("out/report/report.json").read_text())["tables"]["arms"]["rows"]
    assert [row["steps"] for row in rows[:3]] == [0, 2, 9]
    assert rows[0]["dev LM loss"] is None
    assert all(row["dev LM loss"] > 0 for row in rows[1:3])


def test_masks_and_sizes(work: Path, commands: list[list[str]]) -> None:
    done = ablate("mask-mix", "--arm", "mask-0-20-80", "--seeds", "2")
    assert done.exit_code == 0, done.output
    row, *_ = json.loads(Path("out/report/report.json").read_text())["tables"]["arms"]["rows"]
    assert row["paper NER features"] == 94.6
    assert row["± ner-features"] >= 0.0
    shutil.rmtree("out")
    done = ablate("model-size", "--size", "1-8-1", "--arm", "size-1-8-1")
    assert done.exit_code == 0, done.output
    # The paper has no such row: its own table stands below.
    assert "paper MNLI-m" not in done.output
    assert "12-1024-16" in done.output


def test_features_of_layers(work: Path, commands: list[list[str]]) -> None:
    names = ("weighted-sum-last-four", "second-to-last-hidden", "weighted-sum-all")
    done = ablate("features", *(part for name in names for part in ("--arm", name)))
    assert done.exit_code == 0, done.output
    assert len(commands) == 1 + 3 * 2
    rows = json.loads(Path("out/report/report.json").read_text())["tables"]["arms"]["rows"]
    assert [row["paper NER dev F1"] for row in rows[:3]] == [95.6, 95.9, 95.5]
    # The network has one layer, and embeddings below it.
    layers = {
        "weighted-sum-last-four": [-1],
        "second-to-last-hidden": [0],
        "weighted-sum-all": None,
    }
    for name in names:
        config = load_config(f"out/training/ner/{name}-0/config.cfg")
        assert config["nlp"]["pipeline"] == ["bert_ner"]
        assert config["training"]["optimizer"]["learn_rate"]["initial_rate"] == 1e-3
        assert (
            config["components"]["bert_ner"]["model"]["tok2vec"]["embed"]["layers"] == layers[name]
        )
        nlp = spacy.load(f"out/training/ner/{name}-0/model-best")
        trained = next(n for n in nlp.get_pipe("bert_ner").model.walk() if n.name == "bert_encoder")
        source = load_encoder(Path("out/pretrained/mlm-nsp/model-last")).state_dict()
        for key, value in encoder_shim(trained).network.state_dict().items():
            assert value.equal(source[key])


def test_arm_configs(work: Path, checkpoint: Path) -> None:
    def config(measure, reading):
        return arm_config(
            Path(f"{measure.task}.cfg"), measure, reading, checkpoint=checkpoint, pretrained=False,
            data=Path("corpus"), seed=7,
        )  # fmt: skip

    last = config(TEXTCAT, "last")
    assert last["components"]["bert_textcat"]["model"]["tok2vec"]["piece"] == "last"
    assert last["training"]["seed"] == 7
    assert last["components"]["bert"]["model"]["pretrained"] is False
    mean = config(TEXTCAT, "bilstm")["components"]["bert_textcat"]["model"]["tok2vec"]
    assert mean["@architectures"] == "spacy_bert.TokenMean.v1"
    assert mean["tok2vec"]["encode"]["width"] == 128
    assert config(NER, "last") == config(NER, "config")
    # The encoder's last layer is kept, not computed at each step.
    frozen = config(NER_FEATURES, "config")["components"]
    assert list(frozen) == ["bert_ner"]
    embed = frozen["bert_ner"]["model"]["tok2vec"]["embed"]
    assert (embed["@architectures"], embed["layers"]) == ("spacy_bert.LayerFeatures.v1", [-1])
    assert registry.resolve({"model": frozen["bert_ner"]["model"]})["model"].has_ref("tok2vec")


def test_other_configs_are_refused(work: Path) -> None:
    with pytest.raises(ValueError, match=r"ner.cfg: has no component of the factory .bert_textcat"):
        read_config(Path("ner.cfg"), TEXTCAT)
    config = load_config("textcat.cfg", interpolate=False)
    config["corpora"]["dev"]["path"] = "elsewhere.spacy"
    config.to_disk("textcat.cfg", interpolate=False)
    with pytest.raises(
        ValueError, match=r"textcat.cfg: \[corpora.dev\] path must be \${paths.dev}"
    ):
        read_config(Path("textcat.cfg"), TEXTCAT)
    config["components"]["bert_textcat"]["model"]["tok2vec"]["@architectures"] = "another"
    config.to_disk("textcat.cfg", interpolate=False)
    with pytest.raises(ValueError, match=r"must read spacy_bert.ClsListener.v1"):
        read_config(Path("textcat.cfg"), TEXTCAT)


@pytest.mark.parametrize(
    ("study", "options", "message"),
    [
        ("all", (), "there is no study 'all'"),
        ("tasks", ("--seeds", "0"), "seeds must be at least 1"),
        ("tasks", ("--jobs", "0"), "jobs must be at least 1"),
        ("steps", (), "needs at least 8 pre-training steps"),
        ("tasks", ("--data", "other"), "other/textcat/train.spacy: no such file"),
        ("tasks", ("--paths.shards", "other"), "other: no such directory"),
        ("tasks", ("--training.stebs", "3"), "no field 'stebs'"),
        ("tasks", ("--config", "none.cfg"), "none.cfg: no such config file"),
        ("tasks", ("--ner", "none.cfg"), "none.cfg: no such config file"),
        ("tasks", ("--ner", "textcat.cfg"), 'no component of the factory "bert_ner"'),
        ("model-size", ("--size", "1-8-3"), "multiple of num_attention_heads"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_done(
    work: Path, commands: list[list[str]], study: str, options: tuple[str, ...], message: str
) -> None:
    done = ablate(study, *options)
    assert done.exit_code == 1
    assert message in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert not commands
    assert not Path("out").exists()


def test_a_directory_of_somebody_else_is_left_alone(work: Path, commands: list[list[str]]) -> None:
    other = Path("out/pretrained/mlm-nsp/thesis.txt")
    other.parent.mkdir(parents=True)
    other.touch()
    done = ablate("tasks")
    assert done.exit_code == 1
    assert "was not made here; name another --output" in done.output
    assert other.exists()


def test_help_has_examples() -> None:
    text = " ".join(CliRunner().invoke(app, ["ablate", "--help"]).output.split())
    assert "Example: python -m spacy bert ablate tasks" in text
