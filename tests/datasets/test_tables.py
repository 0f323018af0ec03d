"""Tables of texts with classes or values."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
import spacy
from spacy.tokens import Doc, DocBin
from typer.testing import CliRunner

from spacy_bert.cli.app import app
from spacy_bert.datasets.tables import Columns, Counts, write_table
from spacy_bert.datasets.writing import BadRows

NLP = spacy.blank("en")


def docs(path: Path) -> list[Doc]:
    return list(DocBin().from_disk(path).get_docs(NLP.vocab))


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf8")
    return path


def texts(path: Path) -> list[str]:
    return [doc.text.strip() for doc in docs(path)]


def test_one_class_of_csv_with_quotes(tmp_path: Path) -> None:
    table = write(
        tmp_path / "a.csv", "id,text,label", '1,"Good, ""really"".",pos', '2,"Two\nlines",neg', ""
    )
    counts = write_table(
        table, tmp_path / "a.spacy", NLP, BadRows(), columns=Columns(texts=["text"], label="label")
    )
    assert counts == {tmp_path / "a.spacy": Counts(docs=2, labels=Counter(pos=1, neg=1))}
    first, second = docs(tmp_path / "a.spacy")
    assert first.text == 'Good, "really".'
    assert first.cats == {"neg": 0.0, "pos": 1.0}
    assert second.text == "Two\nlines"


def test_pairs_of_tsv_in_which_quotes_mean_nothing(tmp_path: Path) -> None:
    table = tmp_path / "a.tsv.gz"
    table.write_bytes(gzip.compress(b'x\tb\ta\n1\tHe said "no\tWho?\n0\tB\tA\n'))
    columns = Columns(texts=["a", "b"], label="x")
    write_table(table, tmp_path / "a.spacy", NLP, BadRows(), columns=columns)
    first, _ = docs(tmp_path / "a.spacy")
    assert [span.text for span in first._.segments] == ["Who?", 'He said "no']
    assert first.cats == {"0": 0.0, "1": 1.0}


def test_several_classes_by_divider_or_list(tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", "t,l", "A,x; y", "B,", "C,y")
    columns = Columns(texts=["t"], label="l", divider=";")
    write_table(table, tmp_path / "a.spacy", NLP, BadRows(), columns=columns)
    expected = [{"x": 1.0, "y": 1.0}, {"x": 0.0, "y": 0.0}, {"x": 0.0, "y": 1.0}]
    assert [doc.cats for doc in docs(tmp_path / "a.spacy")] == expected
    rows = [{"t": "A", "l": ["x", "y"]}, {"t": "B", "l": []}, {"l": ["y"], "t": "C"}]
    table = write(tmp_path / "a.jsonl", *map(json.dumps, rows))
    columns = Columns(texts=["t"], label="l")
    write_table(table, tmp_path / "b.spacy", NLP, BadRows(), columns=columns)
    assert [doc.cats for doc in docs(tmp_path / "b.spacy")] == expected


def test_values(tmp_path: Path) -> None:
    table = write(tmp_path / "a.jsonl", '{"t": "A", "v": 2, "w": "1.5"}', '{"t": "B", "v": 0.5}')
    columns = Columns(texts=["t"], values=["v"])
    write_table(table, tmp_path / "a.spacy", NLP, BadRows(), columns=columns)
    assert [doc.cats for doc in docs(tmp_path / "a.spacy")] == [{"v": 2.0}, {"v": 0.5}]
    columns = Columns(texts=["t"], values=["v", "w"])
    write_table(table, tmp_path / "a.spacy", NLP, BadRows(), columns=columns)
    assert [doc.cats for doc in docs(tmp_path / "a.spacy")] == [{"v": 2.0, "w": 1.5}, {"v": 0.5}]
    for row, problem in (("A,x", "v must be a number, got 'x'"), ("A,", "v: no value")):
        table = write(tmp_path / "a.csv", "t,v", row)
        columns = Columns(texts=["t"], values=["v"])
        with pytest.raises(ValueError, match=rf"a.csv, line 2: {problem}$"):
            write_table(table, tmp_path / "a.spacy", NLP, BadRows(), columns=columns)


def test_a_share_of_the_rows_is_for_dev(tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", "t,l", *(f"text {i},{'xy'[i % 2]}" for i in range(400)))
    columns, train, dev = (
        Columns(texts=["t"], label="l"),
        tmp_path / "train.spacy",
        tmp_path / "dev.spacy",
    )
    write_table(table, train, NLP, BadRows(), columns=columns, dev=dev, dev_share=0.25)
    first = texts(dev)
    assert 70 < len(first) < 130
    assert sorted([*texts(train), *first]) == sorted(f"text {i}" for i in range(400))
    write_table(table, train, NLP, BadRows(), columns=columns, dev=dev, dev_share=0.25)
    assert texts(dev) == first
    small = write(tmp_path / "b.csv", "t,l", "A,x")
    with pytest.raises(
        ValueError, match=r"of 1 rows none falls to .* by chance: raise --dev-share"
    ):
        write_table(small, tmp_path / "b.spacy", NLP, BadRows(), columns=columns, dev=dev)
    assert not (tmp_path / "b.spacy").exists()


def test_a_delimiter_of_ones_own_has_quotes(tmp_path: Path) -> None:
    columns, output = Columns(texts=["t"], label="l"), tmp_path / "a.spacy"
    for delimiter, name in ((";", "a.csv"), ("\t", "a.tsv"), ("|", "a.txt")):
        table = write(tmp_path / name, f'"t"{delimiter}l', f'"a ""b""\nc"{delimiter}x')
        write_table(table, output, NLP, BadRows(), columns=columns, delimiter=delimiter)
        assert texts(output) == ['a "b"\nc']
    for name, header in (("a.csv", "t;l"), ("a.tsv", '"t"\t"l"')):
        table = write(tmp_path / name, header, "A;x")
        with pytest.raises(ValueError, match=r"no column .* divided by something else, give --d"):
            write_table(table, output, NLP, BadRows(), columns=columns)


def test_texts_may_be_long(tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", "t,l", f"{'word ' * 30_000},x")
    columns = Columns(texts=["t"], label="l")
    write_table(table, tmp_path / "a.spacy", NLP, BadRows(), columns=columns)
    assert len(docs(tmp_path / "a.spacy")[0]) >= 30_000


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("a.csv", ["t,l", "A,x", "B"], "line 3: 1 cell less than the first line has"),
        ("a.csv", ["t,l", "A,x,y,z"], "line 2: 2 cells more than the first line has"),
        ("a.csv", ["t,l", "A,"], "line 2: l is empty"),
        ("a.tsv", ["t\tl", "\tx"], "line 2: t must be a text, got ''"),
        ("a.jsonl", ['{"t": 7, "l": "x"}'], "line 1: t must be a text, got 7"),
        ("a.tsv", ["t\tl", "a\x1eb\tx"], r"line 2: t holds U\+001E"),
        ("a.jsonl", ['{"t": "a \\ud83d", "l": "x"}'], r"line 1: t holds U\+D83D, half of a char"),
        ("a.jsonl", ['{"t": "a", "l": "\\ud83d"}'], r"line 1: l holds U\+D83D, half of a char"),
        ("a.jsonl", ['{"t": "a", "l": ' + "[" * 100_000], "line 1: not JSON"),
    ],
)
def test_malformed_rows_are_fatal_or_skipped(
    tmp_path: Path, name: str, lines: list[str], message: str
) -> None:
    table = write(tmp_path / name, *lines)
    columns, output = Columns(texts=["t"], label="l"), tmp_path / "a.spacy"
    with pytest.raises(ValueError, match=rf"^{table}, {message}"):
        write_table(table, output, NLP, BadRows(), columns=columns)
    assert not output.exists()
    with table.open("a") as stream:
        stream.write({"a.csv": "C,z\n", "a.tsv": "C\tz\n"}.get(name, '{"t": "C", "l": "z"}\n'))
    bad = BadRows(skip=True)
    write_table(table, output, NLP, bad, columns=columns)
    assert texts(output)[-1] == "C"
    assert len(bad.problems) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "t,l\n", "expected a table, .csv, .tsv, .jsonl .or .gz of one., got '.txt'"),
        ("a.csv", "", "has no column t, l; it is empty"),
        ("a.csv", "text,l\nA,x\n", "has no column t; its first line: text, l"),
        ("a.csv", "t,t,l\nA,B,x\n", "has the column t twice"),
        ("a.jsonl", '{"t": "A", "l": {"x": 1}}\n', "line 1: l must be a class or a list of them"),
        ("a.csv", 't,l\n"A,x\n', "line 2: not CSV"),
        ("a.csv", 't,l\nA,x\n"B,x\nC,x\n', "line 3: .* goes on to line 4: is a quote not closed"),
        ("a.jsonl", '{"t": "A"}\n', "has no field l; its objects have t"),
        ("a.jsonl", "[]\n", "line 1: expected an object"),
        ("a.jsonl", "{\n", "line 1: not JSON"),
        ("a.csv", "t,l\n", "there is no Doc to write"),
    ],
)
def test_what_is_no_such_table_is_refused(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    columns = Columns(texts=["t"], label="l")
    with pytest.raises(ValueError, match=message):
        write_table(tmp_path / name, tmp_path / "a.spacy", NLP, BadRows(), columns=columns)


def test_the_command(tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", "t,u,l", "A,B,x", "C,D,y")
    output = str(tmp_path / "a.spacy")

    def run(*options: str):
        return CliRunner().invoke(app, ["data", "table", str(table), output, *options])

    done = run("--text", "t", "--text", "u", "--label", "l")
    assert done.exit_code == 0, done.output
    assert f"{output}: 2 Docs (x 1, y 1)" in done.output
    assert [len(doc._.segments) for doc in docs(tmp_path / "a.spacy")] == [2, 2]
    for options, message in [
        (("--text", "t"), "no column to learn: give --label COLUMN, or --value COLUMN"),
        (("--text", "t", "--label", "l", "--value", "u"), "give one of them"),
        (("--text", "t", "--value", "u", "--divider", ";"), "--divider stands between"),
        (("--text", "t", "--label", "l", "--dev-share", "1"), "--dev-share must be above 0"),
        (("--text", "t", "--label", "l", "--divider", ""), "--divider must not be empty"),
        (("--text", "t", "--label", "l", "--delimiter", "||"), "--delimiter must be one character"),
        (("--text", "t", "--label", "t"), "column 't' cannot be two things"),
        (("--text", "t", "--label", "l", "--dev", output), "--dev must be another file"),
    ]:
        failed = run(*options)
        assert failed.exit_code == 1
        assert message in failed.stderr
        assert len(failed.stderr.strip().splitlines()) == 1


def test_a_number_without_bounds(tmp_path: Path) -> None:
    table = write(tmp_path / "a.jsonl", f'{{"t": "A", "v": 1{"0" * 400}}}')
    columns = Columns(texts=["t"], values=["v"])
    with pytest.raises(ValueError, match="line 1: v must be a number, got 1000"):
        write_table(table, tmp_path / "a.spacy", NLP, BadRows(), columns=columns)


def test_names_are_looked_at_before_anything_is_written(tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", "t,l", *(f"text {i},x" for i in range(20)))
    output = tmp_path / "a.spacy"
    output.write_bytes(b"as it was")
    columns = Columns(texts=["t"], label="l")
    with pytest.raises(ValueError, match=r"dev\.txt: spaCy reads files whose names end in"):
        write_table(
            table, output, NLP, BadRows(), columns=columns, dev=tmp_path / "dev.txt", dev_share=0.5
        )
    assert output.read_bytes() == b"as it was"
