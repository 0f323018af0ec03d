"""WordPiece: the same pieces as Hugging Face's fast tokenizer on every text."""

from __future__ import annotations

import copy
import gzip
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from spacy_bert.wordpiece import SPECIAL_TOKENS, WordPiece
from tests.shared_data import SHARED, needs_shared

transformers = pytest.importorskip("transformers", reason="parity is measured against it")

# Every script's characters stand in the vocabulary trained below.
SCRIPTS = {
    "hangul": "한국어 위키백과는 백과사전이다. 누구나 참여할 수 있다.",
    "kana": "これはテストです。カタカナとひらがな、ﾊﾝｶｸも。",
    "han": "维基百科是一個自由的百科全書。漢字𠀀𪚥",
    "arabic": "مَرْحَبًا بالعالم، هذه جملةٌ قصيرة.",
    "devanagari": "नमस्ते दुनिया, यह एक छोटा वाक्य है।",
    "cyrillic": "Съешь же ещё этих мягких французских булок, да выпей чаю. ЙЁ",
    "hebrew": "שָׁלוֹם עוֹלָם, זהו משפט קצר.",
    "thai": "ภาษาไทยเป็นภาษาที่ไม่มีการเว้นวรรค",
    "greek": "Ὀδυσσεὺς καὶ Πηνελόπεια· ΟΔΥΣΣΕΥΣ ΣΟΦΌΣ σοφός",
    "turkish": "İSTANBUL ılık Iğdır diyarbakır",
    "georgian": "საქართველო ᲡᲐᲥᲐᲠᲗᲕᲔᲚᲝ",
    "tamil": "தமிழ் ஒரு மொழி",
}
ODD_TEXTS = {
    "emoji": "👩‍👩‍👧‍👦 family 👍🏽 thumbs🏳️‍🌈 flag 🇩🇪!",
    "composed": "caf\u00e9 na\u00efve \u00c5ngstr\u00f6m \ufb01sh",
    "decomposed": "cafe\u0301 nai\u0308ve A\u030angstro\u0308m o\u0302\u0323",
    "accent first": "\u0301abc \u0301 \u0300\u0301",
    "control": "a\x01b\x07c \x7f x\x80y\x9f\x1e\x1f\x1c z\x0b\x0c q",
    "zero width": "zero\u200bwidth\u200c non\u200djoiner\ufeff bom \u2060word",
    "line separators": "one\u2028two\u2029three\x85four\r\nfive\rsix\nseven\teight",
    "spaces": "\u00a0nbsp\u00a0here\u3000wide\u2009thin\u202fnarrow  double   triple ",
    "nul": "a\x00b \x00 c\ufffdd \ufffd",
    "private": "\ue000private\uf8ff use \U000f0000 \U0010ffff\ufdd0",
    "special": "a [SEP] b[CLS]c [MASK] [PAD][UNK] [sep] [ SEP ] [MASK]ed ##ing [unused1]",
    "long word": "x" * 100 + " " + "y" * 101 + " " + "z" * 200 + " é" * 3 + "é" * 120,
    "punctuation": "don't-stop... (1,000.5%) $3 €5 ~`^|<>+= «quoted» „low“ — ‘x’ ¿qué? ·",
    "empty": "",
    "only spaces": " \t \n ",
    "digits": "١٢٣ 123 ① ² ½ Ⅻ 10⁶",
    "final sigma": "ΣΑΣ ΑΣ. Σ Σα",
    "bidi": "\u202eright to left\u202c \u200fmark",
}
TEXTS = {**SCRIPTS, **ODD_TEXTS}


def agree(ours: WordPiece, reference, texts: list[str]) -> None:
    """Assert that ids and offsets are those of `transformers` on each whole text."""
    expected = reference(texts, add_special_tokens=False, return_offsets_mapping=True)
    only_ids = ours.encode_ids(texts)
    for i, pieces in enumerate(ours.encode(texts)):
        text = texts[i]
        assert pieces.ids.dtype == pieces.offsets.dtype == only_ids[i].dtype == np.int32
        assert pieces.ids.tolist() == expected["input_ids"][i], repr(text)
        assert only_ids[i].tolist() == expected["input_ids"][i], repr(text)
        offsets = np.array(expected["offset_mapping"][i]).reshape(-1, 2)
        assert np.array_equal(pieces.offsets, offsets), repr(text)


def corpus() -> list[str]:
    """A small text with every script in it, repeated so that pairs are frequent enough."""
    english = "the quick brown fox jumps over the lazy dog while the other foxes were jumping"
    return [
        english,
        *SCRIPTS.values(),
        english.upper(),
        "caf\u00e9 caf\u00e9s \u00c5ngstr\u00f6m",
    ] * 3


@pytest.fixture(scope="module", params=["uncased", "cased", "uncased with accents", "no chinese"])
def pair(request, tmp_path_factory):
    """A vocabulary trained here, saved, and the same directory as `transformers` reads it."""
    kinds = {
        "uncased": {},
        "cased": {"lowercase": False},
        "uncased with accents": {"strip_accents": False},
        "no chinese": {"chinese_chars": False},
    }
    directory = tmp_path_factory.mktemp("tokenizer")
    ours = WordPiece.train(corpus(), vocab_size=900, **kinds[request.param])
    ours.save(directory)
    return ours, transformers.BertTokenizerFast.from_pretrained(directory)


@pytest.mark.parametrize("name", TEXTS)
def test_parity_on_scripts_and_odd_texts(pair, name):
    agree(*pair, [TEXTS[name]])


def test_parity_on_one_batch_of_all_texts(pair):
    agree(*pair, [*TEXTS.values(), " ".join(TEXTS.values())])
    assert pair[0].encode([]) == [] == pair[0].encode_ids([])


@settings(max_examples=300, deadline=None)
@given(
    texts=st.lists(
        st.one_of(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
            st.lists(
                st.sampled_from(
                    [*SPECIAL_TOKENS, " ", "  ", "\u0301", "\x00", "\u2028", "The", "σς", "漢", "é"]
                )
            ).map("".join),
        ),
        max_size=4,
    )
)
def test_parity_on_any_text(small_pair, texts):
    agree(*small_pair, texts) if texts else None


@pytest.fixture(scope="module")
def small_pair(tmp_path_factory):
    directory = tmp_path_factory.mktemp("small")
    ours = WordPiece.train(corpus(), vocab_size=600)
    ours.save(directory)
    return ours, transformers.BertTokenizerFast.from_pretrained(directory)


@needs_shared
@pytest.mark.parametrize("lowercase", [True, False])
def test_parity_on_wikipedia_with_the_published_vocabulary(lowercase):
    file = SHARED / "bert-base-uncased" / "vocab.txt"
    with gzip.open(SHARED / "wikipedia_en" / "articles.jsonl.gz", "rt", encoding="utf8") as lines:
        paragraphs = [
            paragraph
            for _, line in zip(range(1500), lines, strict=False)
            for paragraph in json.loads(line)["text"].split("\n")
        ][:5000]
    assert len(paragraphs) == 5000
    ours = WordPiece.load(file)
    if not lowercase:
        vocabulary = {token: piece for piece, token in enumerate(ours.tokens)}
        ours = WordPiece.from_vocabulary(vocabulary, lowercase=False)
    reference = transformers.BertTokenizerFast(vocab_file=str(file), do_lower_case=lowercase)
    agree(ours, reference, [*paragraphs, *TEXTS.values()])


def test_training_twice_gives_the_same_vocabulary():
    program = (
        "from tests.test_wordpiece import corpus; from spacy_bert.wordpiece import WordPiece;"
        "print(WordPiece.train(corpus(), vocab_size=700).vocab_hash)"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    }
    # The order of the texts and a one-shot iterator make no difference either.
    hashes.add(WordPiece.train(iter(corpus()[::-1]), vocab_size=700).vocab_hash + "\n")
    assert len(hashes) == 1


def test_trained_vocabulary_begins_with_the_special_tokens_and_has_the_size_asked_for():
    wordpiece = WordPiece.train(corpus(), vocab_size=600)
    assert wordpiece.tokens[:5] == list(SPECIAL_TOKENS)
    assert len(wordpiece) == len(wordpiece.tokens) == len(set(wordpiece.tokens)) == 600
    assert wordpiece.special_ids == (0, 1, 2, 3, 4)
    assert "fox" in wordpiece.tokens
    assert "##," not in wordpiece.tokens  # punctuation is never inside a word


def test_alphabet_limit_keeps_the_most_frequent_letters():
    texts = ["aaa bbb cc d " * 5]
    wordpiece = WordPiece.train(texts, vocab_size=100, alphabet_limit=2)
    assert {token for token in wordpiece.tokens if len(token) == 1} == {"a", "b"}
    assert wordpiece.encode_ids(["d"])[0].tolist() == [wordpiece.unk_id]


@pytest.mark.parametrize("lowercase", [True, False])
def test_saved_directory_reads_the_same_everywhere(tmp_path, lowercase):
    ours = WordPiece.train(corpus(), vocab_size=700, lowercase=lowercase)
    ours.save(tmp_path, model_max_length=128)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    for kind in (transformers.BertTokenizerFast, transformers.AutoTokenizer):
        reference = kind.from_pretrained(tmp_path)
        assert reference.model_max_length == 128
        assert reference.is_fast
        agree(ours, reference, list(TEXTS.values()))
    for again in (WordPiece.load(tmp_path), WordPiece.load(tmp_path / "tokenizer.json")):
        assert again.tokens == ours.tokens
        agree(again, reference, list(TEXTS.values()))
    (tmp_path / "tokenizer.json").unlink()
    agree(WordPiece.load(tmp_path), reference, list(TEXTS.values()))


def test_copies_encode_alike():
    ours = WordPiece.train(corpus(), vocab_size=600)
    text = " ".join(TEXTS.values())
    expected = ours.encode_ids([text])[0].tolist()
    for other in (
        WordPiece.from_str(ours.to_str()),
        pickle.loads(pickle.dumps(ours)),
        copy.deepcopy(ours),
    ):
        assert other.encode_ids([text])[0].tolist() == expected
        assert other.vocab_hash == ours.vocab_hash


def test_what_transformers_saves_is_read_alike(tmp_path):
    WordPiece.train(corpus(), vocab_size=600).save(tmp_path / "ours")
    reference = transformers.BertTokenizerFast.from_pretrained(
        tmp_path / "ours", do_lower_case=False, strip_accents=True
    )
    reference.save_pretrained(tmp_path / "theirs")
    agree(WordPiece.load(tmp_path / "theirs"), reference, list(TEXTS.values()))


def test_truncation_and_padding_in_the_file_are_switched_off(tmp_path):
    ours = WordPiece.train(corpus(), vocab_size=600)
    tokenizer = Tokenizer.from_str(ours.to_str())
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    text = "the quick brown fox jumps"
    expected = ours.encode_ids([text])[0].tolist()
    assert WordPiece.load(tmp_path).encode_ids([text])[0].tolist() == expected


def test_added_tokens_that_swallow_spaces_are_honoured():
    tokenizer = Tokenizer.from_str(WordPiece.train(corpus(), vocab_size=600).to_str())
    backend = json.loads(tokenizer.to_str())
    added = {**backend["added_tokens"][-1], "id": 600, "content": "[ a b ]", "lstrip": True}
    backend["added_tokens"].append(added)
    text = json.dumps(backend)
    ours, reference = WordPiece.from_str(text), Tokenizer.from_str(text)
    for sentence in ("the fox  [ a b ] jumps over", "the dog [MASK] x"):
        expected = reference.encode(sentence, add_special_tokens=False)
        (pieces,) = ours.encode([sentence])
        assert pieces.ids.tolist() == expected.ids
        assert pieces.offsets.tolist() == [list(span) for span in expected.offsets]
    assert len(ours) == 601


def test_caches_stay_bounded(monkeypatch):
    ours = WordPiece.train(corpus(), vocab_size=600)
    monkeypatch.setattr(type(ours._ids_of), "MAX_ENTRIES", 10)
    text = " ".join(f"w{i}" for i in range(100)) + " " + "long" * 50
    expected = ours.encode([text])[0].ids.tolist()
    assert ours.encode_ids([text])[0].tolist() == expected
    assert len(ours._ids_of) <= 10
    assert len(ours._rows_of) <= 10


def test_a_process_may_fork_after_encoding(tmp_path):
    WordPiece.train(corpus(), vocab_size=600).save(tmp_path)
    program = (
        "import multiprocessing, sys; from spacy_bert.wordpiece import WordPiece\n"
        "ours = WordPiece.load(sys.argv[1]); first = ours.encode_ids(['the fox'] * 9)[0].tolist()\n"
        "with multiprocessing.get_context('fork').Pool(1) as pool:\n"
        "    (again,) = pool.apply(ours.encode_ids, (['the fox'],))\n"
        "assert again.tolist() == first"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")  # neither a deadlock nor a warning


def test_a_repeated_line_in_a_vocabulary_keeps_the_numbering(tmp_path):
    lines = [*SPECIAL_TOKENS, "fox", "dog", "fox", "the"]
    (tmp_path / "vocab.txt").write_text("\n".join(lines))
    ours = WordPiece.load(tmp_path / "vocab.txt")
    assert len(ours) == 9
    assert ours.encode_ids(["the fox"])[0].tolist() == [8, 7]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"holds neither tokenizer\.json nor vocab\.txt"),
        ({"tokenizer.json": "{"}, r"tokenizer\.json: not a tokenizer\.json"),
        ({"vocab.txt": "[PAD]\n[UNK]\n[SEP]\n[MASK]\n"}, r"vocab\.txt: .* lacks \[CLS\]"),
        ({"vocab.txt": b"\xff\xfe\x00"}, r"vocab\.txt: not a vocabulary in UTF-8"),
        (
            {"tokenizer.json": Tokenizer(models.BPE()).to_str()},
            r"tokenizer\.json: the tokenizer's model is BPE",
        ),
        ({"vocab.txt": "x", "tokenizer_config.json": "{"}, r"tokenizer_config\.json: not JSON"),
        ({"vocab.txt": "x", "tokenizer_config.json": "[]"}, r"tokenizer_config\.json: should hold"),
    ],
)
def test_a_directory_without_a_wordpiece_is_refused(tmp_path, files, message):
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.encode("utf8")
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        WordPiece.load(tmp_path)


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such file"):
        WordPiece.load(tmp_path / "nowhere")


def test_training_on_nothing_or_with_too_small_a_vocabulary_is_refused():
    with pytest.raises(ValueError, match="hold no words"):
        WordPiece.train(["", " "], vocab_size=100)
    with pytest.raises(ValueError, match="--vocab-size 10 is too small"):
        WordPiece.train(corpus(), vocab_size=10)


def test_settings_that_are_no_settings(tmp_path):
    ours = WordPiece.train(corpus(), vocab_size=600)
    ours.save(tmp_path)
    expected = ours.encode_ids(list(TEXTS.values()))
    for value, message in ((None, None), ("yes", "tokenizer_config.json: lowercase must be true")):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": value}))
        if message is None:
            found = WordPiece.load(tmp_path).encode_ids(list(TEXTS.values()))
            assert [ids.tolist() for ids in found] == [ids.tolist() for ids in expected]
        else:
            with pytest.raises(ValueError, match=message):
                WordPiece.load(tmp_path)


def test_a_vocabulary_with_a_byte_order_mark(tmp_path):
    ours = WordPiece.train(corpus(), vocab_size=600)
    ours.save(tmp_path)
    file = tmp_path / "marked.txt"
    file.write_bytes("\ufeff".encode() + (tmp_path / "vocab.txt").read_bytes())
    assert WordPiece.load(file).tokens == ours.tokens
