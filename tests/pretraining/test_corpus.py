"""Text in Google's form -> documents."""

from __future__ import annotations

import gzip
import json

import pytest

from spacy_bert.pretraining.corpus import RecordCorpus, TextCorpus


def test_documents_end_at_blank_lines_and_with_the_file(tmp_path):
    (tmp_path / "b.txt").write_text("\n\nc1\n  \n\n d1 \nd2", "utf8")
    (tmp_path / "a.txt").write_bytes("\ufeffa1\r\na2\r\n\r\nb1\r\n".encode())
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "e.txt").write_text("é1\u2028still é1\n", "utf8")
    (tmp_path / "notes.md").write_text("not text", "utf8")
    corpus = TextCorpus(tmp_path)
    documents = [["a1", "a2"], ["b1"], ["c1"], ["d1", "d2"], ["é1\u2028still é1"]]
    assert list(corpus) == documents
    assert list(corpus) == documents  # it can be read again
    assert list(corpus.sentences()) == [sentence for one in documents for sentence in one]
    assert list(TextCorpus(tmp_path / "b.txt")) == [["c1"], ["d1", "d2"]]


def test_a_missing_or_empty_corpus_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such file or directory"):
        TextCorpus(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"holds no \.txt, \.txt\.gz, \.jsonl"):
        TextCorpus(tmp_path)


def test_text_in_another_encoding_is_named(tmp_path):
    text = "plain\n" * 5000 + "caf\xe9\n" + "plain\n" * 5000
    (tmp_path / "latin.txt").write_bytes(text.encode("latin1"))
    with pytest.raises(ValueError, match=r"latin\.txt, line 5001: not UTF-8"):
        list(TextCorpus(tmp_path / "latin.txt"))
    (tmp_path / "latin.jsonl.gz").write_bytes(gzip.compress(text.encode("latin1")[29_994:]))
    with pytest.raises(ValueError, match=r"latin\.jsonl\.gz, line 2: not UTF-8"):
        list(TextCorpus(tmp_path / "latin.jsonl.gz"))


def test_a_corpus_without_documents_is_named(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("\n \n")
    with pytest.raises(ValueError, match=r"a\.txt: holds no text"):
        list(TextCorpus(file))
    file.write_text("short\n\nno longer\n")
    with pytest.raises(ValueError, match=r"a\.txt: no document has --min-characters 50 char"):
        list(TextCorpus(file, min_characters=50))


@pytest.mark.parametrize("name", ["rows.json", "rows.json.gz", "rows.csv"])
def test_data_in_another_form_is_not_taken_for_text(tmp_path, name):
    (tmp_path / name).write_text('{"text": "a"}\n')
    with pytest.raises(ValueError, match=rf"{name}: is no plain text; write it as \.jsonl"):
        TextCorpus(tmp_path / name)


def test_a_file_of_another_suffix_is_text_if_named(tmp_path):
    (tmp_path / "notes.md").write_text("a\n")
    assert list(TextCorpus(tmp_path / "notes.md")) == [["a"]]


def test_json_lines_and_compressed_files(tmp_path):
    rows = [{"text": "a1\na2"}, {"text": " "}, {"text": ["b1", "b2"]}]
    lines = "\n".join(map(json.dumps, rows)) + "\n\n"
    (tmp_path / "1.jsonl").write_text(lines, "utf8")
    with gzip.open(tmp_path / "2.jsonl.gz", "wt", encoding="utf8") as stream:
        stream.write(lines)
    with gzip.open(tmp_path / "3.txt.gz", "wt", encoding="utf8") as stream:
        stream.write("c1\nc2\n\nd1")
    twice = [["a1", "a2"], ["b1", "b2"]] * 2
    assert list(TextCorpus(tmp_path)) == [*twice, ["c1", "c2"], ["d1"]]
    assert list(TextCorpus(tmp_path / "3.txt.gz", min_characters=3)) == [["c1", "c2"]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"bad\.jsonl, line 2: not JSON"),
        ("[]", r"bad\.jsonl, line 2: not an object but list"),
        ('{"body": "x"}', r"bad\.jsonl, line 2: has no field 'text'; its fields: body"),
        (
            '{"text": "a \\ud83d"}',
            r"bad\.jsonl, line 2: field 'text' holds U\+D83D, half of a char",
        ),
        ('{"text": ' + "[" * 100_000, r"bad\.jsonl, line 2: not JSON"),
        ('{"text": 3}', r"bad\.jsonl, line 2: field 'text' is neither a text nor a list .* int"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    (tmp_path / "bad.jsonl").write_text(f'{{"text": "good"}}\n{line}\n')
    with pytest.raises(ValueError, match=message):
        list(TextCorpus(tmp_path))


def test_a_truncated_gzip_file_is_named(tmp_path):
    with gzip.open(tmp_path / "cut.txt.gz", "wt") as stream:
        stream.write("".join(f"line {number}\n" for number in range(1000)))
    data = (tmp_path / "cut.txt.gz").read_bytes()
    (tmp_path / "cut.txt.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"cut\.txt\.gz: damaged or truncated gzip file"):
        list(TextCorpus(tmp_path))


def test_a_file_that_is_no_gzip_is_told_from_a_damaged_one(tmp_path):
    (tmp_path / "plain.txt.gz").write_text("text\n")
    with pytest.raises(ValueError, match=r"gz: not a gzip file; rename it to plain\.txt or compr"):
        list(TextCorpus(tmp_path))


def test_the_fingerprint_follows_content_and_settings(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("one")
    first = TextCorpus(file).fingerprint
    assert TextCorpus(file).fingerprint == first
    assert TextCorpus(file, field="body").fingerprint != first
    copy = tmp_path / "copy.txt"
    copy.write_text("one")
    assert TextCorpus(copy).fingerprint == first
    file.write_text("two")
    assert TextCorpus(file).fingerprint != first


def test_the_fingerprint_of_records_follows_content_and_settings():
    first = RecordCorpus([{"text": "a"}]).fingerprint
    assert RecordCorpus([{"text": "a"}]).fingerprint == first
    assert RecordCorpus([{"text": "b"}]).fingerprint != first
    assert RecordCorpus([{"text": "a", "body": "a"}], field="body").fingerprint != first


def test_records_in_memory():
    records = [{"body": "a1\na2"}, {"body": ""}, {"body": ["b1"]}]
    assert list(RecordCorpus(records, field="body")) == [["a1", "a2"], ["b1"]]
    with pytest.raises(ValueError, match="record 1: has no field 'text'"):
        list(RecordCorpus(records))
