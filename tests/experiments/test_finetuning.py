"""The paper's fine-tuning as one command: small files in the official forms, tiny networks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import spacy
import srsly
from spacy.tokens import DocBin
from spacy.util import load_config
from typer.testing import CliRunner

from spacy_bert.cli.app import app
from spacy_bert.experiments.catalog import EXPERIMENTS, GROUPS, find_experiments
from tests.pipeline.questions import CONTEXT

MRPC = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
STSB = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
SWAG = "id,sent1,sent2,ending0,ending1,ending2,ending3,label\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Files of four tasks, as they are published."""
    folder = tmp_path / "official"
    for name in ("glue/MRPC", "glue/STS-B", "conll2003", "squad", "swag"):
        (folder / name).mkdir(parents=True)
    rows = "".join(f"{i % 2}\t1\t2\tThe dog {i}\tThe fox {i % 2}\n" for i in range(10))
    scores = "".join(f"{i}\t" + "x\t" * 6 + f"The dog {i}\tThe fox\t{i / 2}\n" for i in range(10))
    for split in ("train", "dev"):
        (folder / "glue/MRPC" / f"{split}.tsv").write_text(MRPC + rows)
        (folder / "glue/STS-B" / f"{split}.tsv").write_text(STSB + scores)
    tokens = "-DOCSTART- -X- -X- O\n\nThe DT I-NP O\nParis NNP I-NP I-LOC\n\nA DT I-NP O\n\n" * 3
    for name in ("eng.train", "eng.testa", "eng.testb"):
        (folder / "conll2003" / name).write_text(tokens)
    question = {
        "id": "1", "question": "Who jumps?",
        "answers": [{"text": "The quick brown fox", "answer_start": 0}],
    }  # fmt: skip
    article = {"title": "", "paragraphs": [{"context": CONTEXT, "qas": [question] * 3}]}
    for split in ("train", "dev"):
        srsly.write_json(folder / "squad" / f"{split}-v1.1.json", {"data": [article]})
    endings = "".join(f"{i},The dog,It,jumps,keeps,sleeps,is,{i % 4}\n" for i in range(8))
    for name in ("train.csv", "val.csv"):
        (folder / "swag" / name).write_text(SWAG + endings)
    return folder


def reproduce(names: str, data: Path, output: Path, checkpoint: Path, *options: str):
    arguments = [names, str(output), "--data", str(data), "--encoder", str(checkpoint)]
    return CliRunner().invoke(app, ["reproduce", *arguments, *options])


def test_from_official_files_to_a_table(
    data: Path, checkpoint: Path, tmp_path: Path, commands: list[list[str]]
) -> None:
    output = tmp_path / "results"
    names = "mrpc,stsb,conll2003-documents,squad,swag,qqp"
    options = ("--training.dropout", "0.2", "--learning-rate", "1e-3")
    # The tiny network has fewer positions than the recipe's windows.
    options += ("--components.bert.model.window", "64", "--components.bert.model.stride", "32")
    done = reproduce(names, data, output, checkpoint, *options)
    assert done.exit_code == 0, done.output
    assert f"qqp is left out: there is no directory {data / 'glue' / 'QQP'}" in done.output
    rows = json.loads((output / "report" / "report.json").read_text())["tables"]["experiments"]
    found = {(row["experiment"], row["score"]): row for row in rows["rows"]}
    assert found["mrpc", "F1"]["paper"] == 88.9
    assert found["mrpc", "accuracy"]["without reading"] == 50.0
    assert found["conll2003-documents", "test F1"]["paper"] == 92.4
    assert found["swag", "accuracy"]["without reading"] == 25.0
    assert found["stsb", "Pearson"]["cheap baseline"] is not None
    assert found["mrpc", "accuracy"]["cheap baseline"] >= 50.0
    tasks = {"mrpc", "stsb", "conll2003-documents", "squad1", "swag"}
    assert {name for name, _ in found} == tasks
    assert "squad2 is left out" in done.output
    for name, title in found:
        figures = srsly.read_json(output / "metrics" / name / "pretrained-1.json")["figures"]
        assert found[name, title]["pretrained"] == pytest.approx(figures[title])

    # Training did as the recipe says, from both starts.
    for name, batch, epochs in (("mrpc", 32, 3), ("squad1", 16, 2), ("swag", 16, 3)):
        config = load_config(output / "training" / name / "random-1" / "config.cfg")
        training, experiment = config["training"], EXPERIMENTS[name]
        assert (experiment.batch_size, experiment.epochs) == (batch, epochs)
        schedule = training["optimizer"]["learn_rate"]
        assert (schedule["initial_rate"], schedule["total_steps"]) == (1e-3, epochs)
        assert training["max_steps"] == epochs - 1
        assert training["dropout"] == 0.2
        assert config["components"]["bert"]["model"]["pretrained"] is False
    nlp = spacy.load(output / "training" / "stsb" / "pretrained-1" / "model-last")
    assert nlp.get_pipe("bert_textcat").mode == "regression"
    file = output / "data" / "conll2003-documents" / "train.spacy"
    docs = list(DocBin().from_disk(file).get_docs(nlp.vocab))
    assert [len(list(doc.sents)) for doc in docs] == [2, 2, 2]

    # Done is done; what has changed is done again.
    commands.clear()
    again = reproduce(names, data, output, checkpoint, *options)
    assert again.output.count("done before") == 10
    assert not commands
    with (data / "glue/MRPC" / "dev.tsv").open("a") as file:
        file.write("1\t1\t2\tThe dog\tThe fox\n")
    assert reproduce("mrpc", data, output, checkpoint, *options).exit_code == 0
    assert [command[0] for command in commands] == ["train", "bert"] * 2


def test_features_and_joined_sentences(
    data: Path, checkpoint: Path, tmp_path: Path, commands: list[list[str]]
) -> None:
    output = tmp_path / "results"
    names = "conll2003-weighted-sum-last-four,conll2003-weighted-sum-all,conll2003-joined"
    done = reproduce(names, data, output, checkpoint, "--epochs", "2")
    assert done.exit_code == 0, done.output
    rows = json.loads((output / "report" / "report.json").read_text())["tables"]["experiments"]
    found = {(row["experiment"], row["score"]): row["paper"] for row in rows["rows"]}
    assert found["conll2003-weighted-sum-last-four", "dev F1"] == 95.9
    training = output / "training"
    weights = {}
    for start in ("pretrained", "random"):
        nlp = spacy.load(training / "conll2003-weighted-sum-last-four" / f"{start}-1/model-last")
        assert nlp.pipe_names == ["bert_ner"]
        tok2vec = nlp.config["components"]["bert_ner"]["model"]["tok2vec"]
        assert tok2vec["embed"]["combine"] == "weighted"
        assert tok2vec["embed"]["layers"] == [-2, -1], "it has no more"
        assert tok2vec["encode"]["width"] == 768
        assert nlp.config["training"]["optimizer"]["learn_rate"]["initial_rate"] == 1e-3
        weights[start] = tok2vec["embed"]["encoder"]["pretrained"]
    assert weights == {"pretrained": True, "random": False}
    whole = load_config(training / "conll2003-weighted-sum-all" / "pretrained-1" / "config.cfg")
    embed = whole["components"]["bert_ner"]["model"]["tok2vec"]["embed"]
    assert embed["layers"] is None
    joined = load_config(training / "conll2003-joined" / "pretrained-1" / "config.cfg")
    assert joined["corpora"]["train"]["@readers"] == "spacy_bert.JoinedCorpus.v1"
    assert joined["training"]["batcher"]["@batchers"] == "spacy_bert.batch_by_pieces.v1"


def test_seeds_and_limits(
    data: Path, checkpoint: Path, tmp_path: Path, commands: list[list[str]]
) -> None:
    options = ("--components.bert.model.window", "64", "--train-limit", "4")
    options += ("--seeds", "2", "--random-seeds", "0", "--epochs", "5")
    output = tmp_path / "results"
    done = reproduce("mrpc", data, output, checkpoint, *options)
    assert done.exit_code == 0, done.output
    assert sorted(path.stem for path in (output / "metrics" / "mrpc").iterdir()) == [
        "baselines",
        "pretrained-1",
        "pretrained-2",
    ]
    row, _ = json.loads((output / "report" / "report.json").read_text())["tables"]["experiments"][
        "rows"
    ]
    assert row["± pretrained"] >= 0.0
    assert row["random"] is None
    config = load_config(output / "training" / "mrpc" / "pretrained-1" / "config.cfg")
    assert config["training"]["optimizer"]["learn_rate"]["total_steps"] == 5
    assert "but for the epochs, which are 5" in (output / "report" / "index.html").read_text()
    assert len(DocBin().from_disk(output / "data" / "mrpc" / "train.spacy")) == 4
    assert len(DocBin().from_disk(output / "data" / "mrpc" / "dev.spacy")) == 10


def test_a_malformed_file_is_named(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    with (data / "glue/MRPC" / "dev.tsv").open("a") as file:
        file.write("2\t1\t2\tThe dog\tThe fox\n")
    done = reproduce("mrpc", data, tmp_path / "results", checkpoint)
    assert done.exit_code == 1
    assert "dev.tsv, line 12: Quality '2' is none of 0, 1" in done.output


def test_archives_are_unpacked(
    data: Path, checkpoint: Path, tmp_path: Path, commands: list[list[str]]
) -> None:
    glue, options = data / "glue", ("--components.bert.model.window", "64", "--random-seeds", "0")
    shutil.make_archive(str(glue / "MRPC"), "zip", glue, "MRPC")
    shutil.rmtree(glue / "MRPC")
    done = reproduce("mrpc", data, tmp_path / "results", checkpoint, *options)
    assert done.exit_code == 0, done.output
    assert len(DocBin().from_disk(tmp_path / "results" / "data" / "mrpc" / "train.spacy")) == 10
    (glue / "RTE.zip").write_bytes(b"not an archive")
    done = reproduce("rte", data, tmp_path / "others", checkpoint, *options)
    assert done.exit_code == 1
    assert "RTE.zip: File is not a zip file; download it again" in done.output


def test_nothing_to_train_on(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    shutil.rmtree(data / "swag")
    (data / "glue/STS-B" / "train.tsv").unlink()
    done = reproduce("swag,stsb", data, tmp_path / "results", checkpoint)
    assert done.exit_code == 1
    assert "nothing to train on" in done.output
    assert "has no file of the split train" in done.output


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ("glue2", (), "unknown experiment 'glue2'; known are glue, conll2003"),
        ("mrpc", ("--seeds", "0"), "seeds must be at least 1"),
        ("mrpc", ("--random-seeds", "-1"), "random seeds must not be negative"),
        ("mrpc", ("--learning-rate", "0"), "learning rate must be above 0"),
        ("mrpc", ("--epochs", "0"), "epochs must be at least 1"),
        ("mrpc", ("--training.dropuot", "0"), "the training config has no field training.dropuot"),
    ],
)
def test_mistakes(
    names: str,
    options: tuple[str, ...],
    message: str,
    data: Path,
    checkpoint: Path,
    tmp_path: Path,
    commands: list[list[str]],
) -> None:
    done = reproduce(names, data, tmp_path / "results", checkpoint, *options)
    assert done.exit_code == 1
    assert message in done.output
    assert not commands


def test_groups_are_those_of_the_paper() -> None:
    assert set(find_experiments(["glue", "squad", "rte"])) == {*GROUPS["glue"], "squad1", "squad2"}
    assert set(EXPERIMENTS) >= {name for names in GROUPS.values() for name in names}
    for experiment in EXPERIMENTS.values():
        assert experiment.scores
        assert set(experiment.splits) == {score.split for score in experiment.scores.values()}
