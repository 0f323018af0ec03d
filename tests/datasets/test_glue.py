"""The readers of GLUE and SICK, on small files in the official forms and on the real ones."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import pytest
import spacy
from spacy.tokens import Doc, DocBin

from spacy_bert.datasets.glue import TASKS, read_split, write_glue
from spacy_bert.datasets.splits import find_files
from spacy_bert.datasets.writing import BadRows
from tests.shared_data import SHARED, needs_shared

NLP = spacy.blank("en")

# The first lines of the official files: training, and test where it has other columns.
STSB = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"
MNLI = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\t"
    "sentence1_parse\tsentence2_parse\tsentence1\tsentence2"
)
SICK = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment"

# task: split, file, header, row, texts, what stands in doc.cats
FORMS = [
    ("cola", "train", "train.tsv", None, "gj04\t0\t*\tHim ate.", ["Him ate."], "unacceptable"),
    ("cola", "dev", "dev.tsv", None, "gj04\t1\t\tHe ate.", ["He ate."], "acceptable"),
    ("cola", "test", "test.tsv", "index\tsentence", "0\tHe ate.", ["He ate."], None),
    ("sst2", "train", "train.tsv", "sentence\tlabel", "a joy \t1", ["a joy "], "positive"),
    ("sst2", "dev", "dev.tsv", "sentence\tlabel", "no joy \t0", ["no joy "], "negative"),
    ("sst2", "test", "test.tsv", "index\tsentence", "0\ta joy", ["a joy"], None),
    (
        "mrpc",
        "train",
        "train.tsv",
        "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        '1\t702\t703\t" A " said .\tB .',
        ['" A " said .', "B ."],
        "equivalent",
    ),
    (
        "mrpc",
        "test",
        "test.tsv",
        "index\t#1 ID\t#2 ID\t#1 String\t#2 String",
        "0\t702\t703\tA .\tB .",
        ["A .", "B ."],
        None,
    ),
    (
        "stsb",
        "train",
        "train.tsv",
        f"{STSB}\tscore",
        "0\tg\tf\t2012\t1\tnone\tnone\tA plane.\tA jet.\t3.800",
        ["A plane.", "A jet."],
        3.8,
    ),
    (
        "stsb",
        "test",
        "test.tsv",
        STSB,
        "0\tg\tf\t2012\t1\tnone\tnone\tA plane.\tA jet.",
        ["A plane.", "A jet."],
        None,
    ),
    (
        "qqp",
        "train",
        "train.tsv",
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        "133\t5\t6\tWhy?\tHow?\t0",
        ["Why?", "How?"],
        "not_duplicate",
    ),
    (
        "qqp",
        "test",
        "test.tsv",
        "id\tquestion1\tquestion2",
        "0\tWhy?\tHow?",
        ["Why?", "How?"],
        None,
    ),
    (
        "mnli",
        "train",
        "train.tsv",
        f"{MNLI}\tlabel1\tgold_label",
        "0\t1\t1n\tfiction\t(b1)\t(b2)\t(p1)\t(p2)\tOne.\tTwo.\tneutral\tneutral",
        ["One.", "Two."],
        "neutral",
    ),
    *(
        (
            "mnli",
            split,
            f"{split}.tsv",
            f"{MNLI}\tlabel1\tlabel2\tlabel3\tlabel4\tlabel5\tgold_label",
            "0\t1\t1n\tfiction\t(b1)\t(b2)\t(p1)\t(p2)\tOne.\tTwo."
            + "\tneutral" * 2
            + "\tcontradiction" * 4,
            ["One.", "Two."],
            "contradiction",
        )
        for split in ("dev_matched", "dev_mismatched")
    ),
    *(
        (
            "mnli",
            split,
            f"{split}.tsv",
            MNLI,
            "0\t1\t1n\tfiction\t(b1)\t(b2)\t(p1)\t(p2)\tOne.\tTwo.",
            ["One.", "Two."],
            None,
        )
        for split in ("test_matched", "test_mismatched")
    ),
    (
        "qnli",
        "dev",
        "dev.tsv",
        "index\tquestion\tsentence\tlabel",
        "0\tWhat?\tThat.\tentailment",
        ["What?", "That."],
        "entailment",
    ),
    ("qnli", "test", "test.tsv", "index\tquestion\tsentence", "0\tQ?\tS.", ["Q?", "S."], None),
    (
        "rte",
        "train",
        "train.tsv",
        "index\tsentence1\tsentence2\tlabel",
        "0\tOne.\tTwo.\tnot_entailment",
        ["One.", "Two."],
        "not_entailment",
    ),
    (
        "wnli",
        "dev",
        "dev.tsv",
        "index\tsentence1\tsentence2\tlabel",
        "0\tOne.\tTwo.\t1",
        ["One.", "Two."],
        "entailment",
    ),
    (
        "ax",
        "test",
        "diagnostic.tsv",
        "index\tsentence1\tsentence2",
        "0\tOne.\tTwo.",
        ["One.", "Two."],
        None,
    ),
    (
        "sick-e",
        "dev",
        "SICK_trial.txt",
        SICK,
        "4\tOne\tTwo\t3.6\tCONTRADICTION\r",
        ["One", "Two"],
        "contradiction",
    ),
    ("sick-r", "test", "SICK_test_annotated.txt", SICK, "4\tA\tB\t3.6\tNEUTRAL", ["A", "B"], 3.6),
]


def write(path: Path, *lines: str | None) -> Path:
    text = "".join(f"{line}\n" for line in lines if line is not None)
    path.write_text(text, encoding="utf8", newline="")
    return path


def read(path: Path) -> list[Doc]:
    return list(DocBin().from_disk(path).get_docs(NLP.vocab))


@pytest.mark.parametrize(
    ("task", "split", "file", "header", "row", "texts", "target"),
    FORMS,
    ids=[f"{task}-{split}" for task, split, *_ in FORMS],
)
def test_official_forms(
    task: str,
    split: str,
    file: str,
    header: str | None,
    row: str,
    texts: Sequence[str],
    target: str | float | None,
    tmp_path: Path,
) -> None:
    write(tmp_path / file, header, row)
    counts = write_glue(task, tmp_path, tmp_path / "out", NLP, BadRows())
    (doc,) = read(tmp_path / "out" / f"{split}.spacy")
    assert doc.text.split("\x1e") == texts
    labels = TASKS[task].labels or {}
    if target is None:
        expected: dict[str, float] = {}
    elif isinstance(target, float):
        expected = {TASKS[task].target: target}
    else:
        expected = {label: float(label == target) for label in labels.values()}
        assert target in expected
    assert doc.cats == expected
    counted = max(expected, key=expected.__getitem__) if expected else "unlabelled"
    assert counts == {split: {counted: 1}}


def test_every_task_has_its_form_tested() -> None:
    assert {task for task, *_ in FORMS} == TASKS.keys()


RTE = "index\tsentence1\tsentence2\tlabel"
GOOD = "0\tOne.\tTwo.\tentailment"


@pytest.mark.parametrize(
    ("task", "header", "row", "problem"),
    [
        ("rte", RTE, "1\tOne.\tTwo.", r"3 columns instead of 4 \(index, sentence1, sente"),
        ("rte", RTE, "1\tOne.\tTwo.\tentailment\t", "5 columns instead of 4"),
        ("rte", RTE, "1\tOne.\tTwo.\tneutral", "label 'neutral' is none of entailment, not_ent"),
        ("rte", RTE, "1\tOne.\x1e\tTwo.\tentailment", r"part 1 of join holds U\+001E"),
        ("sick-r", SICK, "4\tA\tB\thigh\tNEUTRAL", "relatedness_score 'high' is not a number"),
        ("sick-r", SICK, "4\tA\tB\tnan\tNEUTRAL", "relatedness_score 'nan' is not a number"),
    ],
)
def test_malformed_rows_are_fatal_or_skipped(
    task: str, header: str, row: str, problem: str, tmp_path: Path
) -> None:
    good = GOOD if task == "rte" else "4\tA\tB\t3.6\tNEUTRAL"
    file = write(tmp_path / TASKS[task].files["train"][0], header, good, row, good)
    with pytest.raises(ValueError, match=rf"^{file}, line 3: {problem}"):
        write_glue(task, tmp_path, tmp_path / "out", NLP, BadRows())
    assert not (tmp_path / "out" / "train.spacy").exists()
    bad = BadRows(skip=True)
    counts = write_glue(task, tmp_path, tmp_path / "out", NLP, bad)
    assert counts["train"].total() == len(read(tmp_path / "out" / "train.spacy")) == 2
    assert [message.split(":")[0] for message in bad.problems] == [f"{file}, line 3"]


def test_only_line_feeds_end_rows_and_nothing_quotes(tmp_path: Path) -> None:
    text = 'a "b\r and\u2028 c\x85 "'
    file = write(tmp_path / "train.tsv", f"\ufeff{RTE}", f"0\t{text}\t\tentailment", "", GOOD)
    docs = list(read_split(NLP, TASKS["rte"], "train", file, BadRows()))
    assert [doc.text for doc in docs] == [f"{text}\x1e", "One.\x1eTwo."]


def test_compressed_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "dev.tsv.gz").write_bytes(gzip.compress(f"{RTE}\n{GOOD}\n".encode()))
    assert write_glue("rte", tmp_path, tmp_path / "out", NLP, BadRows()) == {
        "dev": {"entailment": 1}
    }


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown task 'RTE'; known are cola, sst2, "):
        write_glue("RTE", tmp_path, tmp_path, NLP, BadRows())
    for source, why in ((tmp_path / "x", "does not exist"), (tmp_path / "a", "is a file")):
        (tmp_path / "a").touch()
        with pytest.raises(ValueError, match=rf"{why}: give the directory that holds train.tsv, "):
            write_glue("cola", source, tmp_path, NLP, BadRows())
    with pytest.raises(ValueError, match=r"has none of the files train.tsv, dev.tsv, test.tsv$"):
        find_files(TASKS["rte"], tmp_path)
    file = write(tmp_path / "dev.tsv", "index\tsentence1\tsentence2", "0\tOne.\tTwo.")
    with pytest.raises(ValueError, match=rf"^{file} has no column label; its first line names ind"):
        write_glue("rte", tmp_path, tmp_path / "out", NLP, BadRows())
    file.write_bytes(f"{RTE}\n0\tOn\xe9.\tTwo.\tentailment\n".encode("latin-1"))
    with pytest.raises(ValueError, match=rf"^{file}, line 2: not UTF-8 "):
        write_glue("rte", tmp_path, tmp_path / "out", NLP, BadRows(skip=True))


# Rows of each split, as counted in the files before there was a reader.
SIZES = {
    "cola": ("glue/CoLA", {"train": 8551, "dev": 1043, "test": 1063}),
    "sst2": ("glue/SST-2", {"train": 67349, "dev": 872}),
    "mrpc": ("glue/MRPC", {"train": 3668, "dev": 408, "test": 1725}),
    "stsb": ("glue/STS-B", {"train": 5749, "dev": 1500}),
    "qnli": ("glue/QNLI", {"dev": 5463}),
    "rte": ("glue/RTE", {"train": 2490, "dev": 277}),
    "wnli": ("glue/WNLI", {"train": 635, "dev": 71}),
    "ax": ("glue/diagnostic", {"test": 1104}),
    "sick-e": ("sick", {"train": 4500, "dev": 500, "test": 4927}),
    "sick-r": ("sick", {"train": 4500, "dev": 500, "test": 4927}),
}


@needs_shared
@pytest.mark.parametrize("name", SIZES)
def test_the_real_files(name: str) -> None:
    folder, sizes = SIZES[name]
    task = TASKS[name]
    files = find_files(task, SHARED / folder)
    assert files.keys() == sizes.keys()
    for split, file in files.items():
        docs = list(read_split(NLP, task, split, file, BadRows()))
        assert len(docs) == sizes[split]
        assert {len(doc._.segments) for doc in docs} == {len(task.texts)}
        values = [doc.cats for doc in docs if doc.cats]
        if split == "test" and name in {"cola", "mrpc", "ax"}:
            assert not values
        elif task.labels is None:
            scores = [cats[task.target] for cats in values]
            assert len(scores) == len(docs)
            assert 0.0 <= min(scores) < 1.5 < 4.5 < max(scores) <= 5.0
        else:
            assert all(sum(cats.values()) == 1.0 for cats in values)
            assert {max(cats, key=cats.__getitem__) for cats in values} == {*task.labels.values()}


def test_mrpc_as_microsoft_publishes_it(tmp_path: Path) -> None:
    header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    (tmp_path / "msr_paraphrase_train.txt").write_text(
        "\ufeff" + header + "1\t7\t8\tA\tB\n0\t9\t10\tC\tD\n1\t8\t7\tE\tF\n", "utf8"
    )
    (tmp_path / "msr_paraphrase_test.txt").write_text(header + "1\t1\t2\tG\tH\n", "utf8")
    with pytest.raises(ValueError, match=r"dev_ids\.tsv: not found; GLUE's list"):
        write_glue("mrpc", tmp_path, tmp_path / "out", NLP, BadRows())
    (tmp_path / "dev_ids.tsv").write_text("9\t10\n", "utf8")
    counts = write_glue("mrpc", tmp_path, tmp_path / "out", NLP, BadRows())
    assert counts == {
        "train": {"equivalent": 2},
        "dev": {"not_equivalent": 1},
        "test": {"equivalent": 1},
    }
    (dev,) = DocBin().from_disk(tmp_path / "out" / "dev.spacy").get_docs(NLP.vocab)
    assert [span.text for span in dev._.segments] == ["C", "D"]
    with (tmp_path / "msr_paraphrase_train.txt").open("a", encoding="utf8") as file:
        file.write("1\n")
    with pytest.raises(ValueError, match="line 5: 1 columns instead of 5"):
        write_glue("mrpc", tmp_path, tmp_path / "out", NLP, BadRows())
