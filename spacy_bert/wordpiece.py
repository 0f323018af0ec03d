"""WordPiece: train a vocabulary, load and save it, turn text into pieces with offsets.

A thin layer over the `tokenizers` library, whose ids it gives exactly: on every text they equal
`transformers.BertTokenizerFast(text, add_special_tokens=False).input_ids`. What it adds:

* training is deterministic (`tokenizers` orders the vocabulary by a randomly seeded hash map);
* the pieces of each space-separated chunk are remembered. Words repeat, so that reading a corpus
  costs a dictionary look-up a word. No tokenizer threads run after training, so a process may
  fork at any time, whatever `TOKENIZERS_PARALLELISM` says.
"""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import BertProcessing
from tokenizers.trainers import WordPieceTrainer

from spacy_bert.files import replacing
from spacy_bert.mistaken import refuse_mistaken

PAD, UNK, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL_TOKENS = (PAD, UNK, CLS, SEP, MASK)
CONTINUATION = "##"

VOCABULARY_FILE = "vocab.txt"
TOKENIZER_FILE = "tokenizer.json"
SETTINGS_FILE = "tokenizer_config.json"

# The fields of `tokenizer_config.json` that shape BERT's normalizer, under its own names.
_NORMALIZER_FIELDS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}

Int32Array = npt.NDArray[np.int32]


class Pieces(NamedTuple):
    """The pieces of one text.

    Attributes:
        ids: Piece ids, (pieces,) int32, without [CLS] and [SEP].
        offsets: Start and end of each piece in the text, in characters, (pieces, 2) int32.
    """

    ids: Int32Array
    offsets: Int32Array


class WordPiece:
    """A WordPiece vocabulary with BERT's text normalization."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Take over a `tokenizers.Tokenizer`: truncation and padding are switched off in it.

        Raises:
            ValueError: If its model is not WordPiece, or its vocabulary lacks a special token.
        """
        if not isinstance(tokenizer.model, models.WordPiece):
            kind = type(tokenizer.model).__name__
            raise ValueError(f"the tokenizer's model is {kind}, BERT needs WordPiece")
        ids = {name: tokenizer.token_to_id(name) for name in SPECIAL_TOKENS}
        missing = [name for name, piece in ids.items() if piece is None]
        if missing:
            raise ValueError(f"the vocabulary lacks {', '.join(missing)}: add it as a line")
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.add_special_tokens(
            [AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS]
        )
        self._tokenizer = tokenizer
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = ids.values()
        self.special_ids: tuple[int, ...] = tuple(ids.values())
        by_id = {piece: token for token, piece in tokenizer.get_vocab().items()}
        # A vocabulary file with a line twice leaves the first line's id without a token.
        self.tokens: list[str] = [
            by_id.get(piece, f"[unnamed{piece}]") for piece in range(max(by_id) + 1)
        ]
        self._splits_at_spaces = _splits_at_spaces(json.loads(tokenizer.to_str()))
        self._ids_of = _ChunkCache(self._chunk_ids)
        self._rows_of = _ChunkCache(self._chunk_rows)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        vocab_size: int,
        lowercase: bool = True,
        strip_accents: bool | None = None,
        chinese_chars: bool = True,
        min_frequency: int = 2,
        alphabet_limit: int = 1000,
    ) -> WordPiece:
        """Train a vocabulary. The same texts and settings give the same vocabulary, always.

        Args:
            texts: Read twice; a one-shot iterator is therefore kept in memory.
            vocab_size: Number of pieces wanted, the five special ones included. A small corpus
                may give fewer.
            lowercase: Lowercase the text.
            strip_accents: Remove accents; None removes them where the text is lowercased.
            chinese_chars: Make each Chinese character a word of its own.
            min_frequency: How often a pair must be seen to be merged into a piece.
            alphabet_limit: How many different characters to keep, the most frequent ones.

        Raises:
            ValueError: If the texts hold no words or `vocab_size` has no room for the alphabet.
        """
        if iter(texts) is texts:
            texts = list(texts)
        normalizer = normalizers.BertNormalizer(
            lowercase=lowercase, strip_accents=strip_accents, handle_chinese_chars=chinese_chars
        )
        letters = _alphabet(texts, normalizer, alphabet_limit)
        if not letters:
            raise ValueError("cannot train a vocabulary: the texts hold no words")
        first = [*SPECIAL_TOKENS, *letters]
        if vocab_size < len(first):
            raise ValueError(
                f"--vocab-size {vocab_size} is too small: the special tokens and the alphabet "
                f"take {len(first)}; raise it"
            )
        tokenizer = _bert_tokenizer(models.WordPiece(unk_token=UNK), normalizer)
        # Left alone the trainer numbers letters in the order of a randomly seeded hash map, and
        # numbers break ties between merges. Ours are fixed by handing them over as special
        # tokens; alphabet_limit=0 then keeps it from adding letters of its own.
        trainer = WordPieceTrainer(
            vocab_size=vocab_size,
            special_tokens=first,
            limit_alphabet=0,
            min_frequency=min_frequency,
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        vocabulary = tokenizer.get_vocab(with_added_tokens=False)
        # A fresh tokenizer, in which the letters are special no longer.
        return cls(_bert_tokenizer(models.WordPiece(vocabulary, unk_token=UNK), normalizer))

    @classmethod
    def from_vocabulary(
        cls,
        vocabulary: Mapping[str, int],
        *,
        lowercase: bool = True,
        strip_accents: bool | None = None,
        chinese_chars: bool = True,
    ) -> WordPiece:
        """Build from a mapping of tokens to ids; the other arguments are those of `train`.

        Raises:
            ValueError: If a special token is missing.
        """
        normalizer = normalizers.BertNormalizer(
            lowercase=lowercase, strip_accents=strip_accents, handle_chinese_chars=chinese_chars
        )
        return cls(_bert_tokenizer(models.WordPiece(dict(vocabulary), unk_token=UNK), normalizer))

    @classmethod
    def load(cls, path: str | Path, *, lowercase: bool | None = None) -> WordPiece:
        """Load a Hugging Face or Google directory, or a `vocab.txt` or `tokenizer.json` by itself.

        In a directory `tokenizer.json` goes before `vocab.txt`, and what `tokenizer_config.json`
        says of case, accents and Chinese characters goes before both. A `vocab.txt` of which
        nothing tells the case, as in Google's directories, is cased if it has capital letters as
        pieces: a vocabulary of lowercased text has none. (`transformers` takes it as uncased.)

        Args:
            path: The directory or file.
            lowercase: Whether to lowercase the text, whatever the files say.

        Raises:
            ValueError: If there is no tokenizer or it is no WordPiece; names the file.
        """
        path = Path(path)
        if not path.exists():
            raise ValueError(f"{path}: no such file or directory; expected a tokenizer")
        source, settings = path, {}
        if path.is_dir():
            has_json = (path / TOKENIZER_FILE).is_file()
            source = path / (TOKENIZER_FILE if has_json else VOCABULARY_FILE)
            if not source.is_file():
                refuse_mistaken(path)
                raise ValueError(
                    f"{path}: holds neither {TOKENIZER_FILE} nor {VOCABULARY_FILE}: put that of "
                    "the model, with which it was trained, beside its weights"
                )
            if (path / SETTINGS_FILE).is_file():
                settings = _read_settings(path / SETTINGS_FILE)
        try:
            if source.suffix == ".json":
                tokenizer = _read_tokenizer(source.read_text(encoding="utf8"))
            else:
                vocabulary = _read_vocabulary(source)
                model = models.WordPiece(vocabulary, unk_token=UNK)
                uncased = not any(map(_is_capital, vocabulary))
                tokenizer = _bert_tokenizer(model, normalizers.BertNormalizer(lowercase=uncased))
            if lowercase is not None:
                if not isinstance(tokenizer.normalizer, normalizers.BertNormalizer):
                    raise ValueError("its normalizer is not BERT's, the case is not to be chosen")
                settings = {**settings, "do_lower_case": lowercase}
            _apply_settings(tokenizer, settings)
            return cls(tokenizer)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None

    @classmethod
    def from_str(cls, text: str) -> WordPiece:
        """Build from the content of a `tokenizer.json`, as `to_str` gives it.

        Raises:
            ValueError: If it is no WordPiece tokenizer.
        """
        return cls(_read_tokenizer(text))

    def to_str(self) -> str:
        """The content of a `tokenizer.json`."""
        return str(self._tokenizer.to_str())

    def save(self, directory: str | Path, *, model_max_length: int = 512) -> None:
        """Write `vocab.txt`, `tokenizer.json` and `tokenizer_config.json`, each atomically.

        `transformers.AutoTokenizer` and `BertTokenizerFast` read the directory and give our ids.

        Args:
            directory: Made if it is not there.
            model_max_length: Longest sequence of the model, in pieces, [CLS] and [SEP] included.
        """
        directory = Path(directory)
        backend = json.loads(self.to_str())
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": model_max_length,
            "pad_token": PAD,
            "unk_token": UNK,
            "cls_token": CLS,
            "sep_token": SEP,
            "mask_token": MASK,
        }
        normalizer = backend["normalizer"] or {}
        if normalizer.get("type") == "BertNormalizer":
            settings["tokenizer_class"] = "BertTokenizer"
            settings |= {name: normalizer[field] for name, field in _NORMALIZER_FIELDS.items()}
        for name, content in (
            (VOCABULARY_FILE, "".join(token + "\n" for token in self.tokens)),
            (TOKENIZER_FILE, json.dumps(backend, ensure_ascii=False, indent=2) + "\n"),
            (SETTINGS_FILE, json.dumps(settings, indent=2) + "\n"),
        ):
            with replacing(directory / name) as temporary:
                temporary.write_bytes(content.encode("utf8"))

    def encode(self, texts: Sequence[str]) -> list[Pieces]:
        """Pieces and character offsets of each text, without [CLS] and [SEP].

        A piece covers the characters it was made from; [UNK] covers the word it stands for.
        """
        split = [self._chunks(text) for text in texts]
        chunks = list(chain.from_iterable(split))
        if not chunks:
            return []
        encoded = [self._rows_of[chunk] for chunk in chunks]
        rows = np.frombuffer(bytearray().join(encoded), dtype=np.int32).reshape(-1, 3)
        counts = np.fromiter(map(len, encoded), np.int64, len(chunks)) // (3 * rows.itemsize)
        # Offsets count from the chunk's start so far: add where each chunk starts in its text.
        widths = np.fromiter(map(len, chunks), np.int64, len(chunks)) + 1
        chunks_of_text = np.fromiter(map(len, split), np.int64, len(split))
        first_chunk = np.cumsum(chunks_of_text) - chunks_of_text
        starts = np.cumsum(widths) - widths
        starts -= np.repeat(starts[first_chunk], chunks_of_text)
        rows[:, 1:] += np.repeat(starts, counts)[:, None].astype(np.int32)
        borders = np.cumsum(np.add.reduceat(counts, first_chunk))[:-1]
        ids, offsets = rows[:, 0].copy(), rows[:, 1:].copy()
        return [
            Pieces(*parts)
            for parts in zip(np.split(ids, borders), np.split(offsets, borders), strict=True)
        ]

    def encode_ids(self, texts: Iterable[str]) -> list[Int32Array]:
        """Only the ids that `encode` gives, about twice as fast: (pieces,) int32 a text."""
        ids_of = self._ids_of.__getitem__
        return [
            np.frombuffer(bytearray().join(map(ids_of, self._chunks(text))), dtype=np.int32)
            for text in texts
        ]

    @property
    def vocab_hash(self) -> str:
        """SHA-256 of the tokens in the order of their ids, in hexadecimal."""
        return hashlib.sha256("\n".join(self.tokens).encode("utf8")).hexdigest()

    def __len__(self) -> int:
        """Number of ids: the vocabulary size that a network needs."""
        return len(self.tokens)

    def __reduce__(self) -> tuple[Callable[[str], WordPiece], tuple[str]]:
        """Copy and pickle through `to_str`, without the caches."""
        return WordPiece.from_str, (self.to_str(),)

    def _chunks(self, text: str) -> list[str]:
        return text.split(" ") if self._splits_at_spaces else [text]

    def _chunk_ids(self, chunk: str) -> bytes:
        return array("i", self._tokenizer.encode(chunk, add_special_tokens=False).ids).tobytes()

    def _chunk_rows(self, chunk: str) -> bytes:
        """Rows of id, start, end, int32."""
        encoding = self._tokenizer.encode(chunk, add_special_tokens=False)
        rows = ((piece, *span) for piece, span in zip(encoding.ids, encoding.offsets, strict=True))
        return array("i", chain.from_iterable(rows)).tobytes()


class _ChunkCache(dict[str, bytes]):
    """Chunk of text -> its pieces as int32 bytes, computed when first asked for; bounded."""

    MAX_ENTRIES = 1 << 17
    MAX_CHARACTERS = 64  # scripts without spaces have long chunks, which never repeat

    def __init__(self, encode: Callable[[str], bytes]) -> None:
        super().__init__()
        self._encode = encode

    def __missing__(self, chunk: str) -> bytes:
        encoded = self._encode(chunk)
        if len(chunk) <= self.MAX_CHARACTERS:
            if len(self) >= self.MAX_ENTRIES:
                self.clear()
            self[chunk] = encoded
        return encoded


def _bert_tokenizer(model: models.WordPiece, normalizer: normalizers.BertNormalizer) -> Tokenizer:
    """A tokenizer as `transformers` sets it up for BERT."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUATION)
    cls_id, sep_id = tokenizer.token_to_id(CLS), tokenizer.token_to_id(SEP)
    if cls_id is not None and sep_id is not None:
        tokenizer.post_processor = BertProcessing((SEP, sep_id), (CLS, cls_id))
    return tokenizer


def _alphabet(
    texts: Iterable[str], normalizer: normalizers.BertNormalizer, limit: int
) -> list[str]:
    """The `limit` most frequent letters, and the continuation form of those seen inside words."""
    chunks: Counter[str] = Counter()
    for text in texts:
        chunks.update(normalizer.normalize_str(text).split())
    pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    counts: Counter[str] = Counter()
    inside: set[str] = set()
    for chunk, count in chunks.items():
        for word, _ in pre_tokenizer.pre_tokenize_str(chunk):
            inside.update(word[1:])
            for letter in word:
                counts[letter] += count
    by_count = sorted(counts, key=lambda letter: (-counts[letter], letter))
    kept = sorted(by_count[:limit])
    return kept + [CONTINUATION + letter for letter in kept if letter in inside]


def _splits_at_spaces(backend: Mapping[str, Any]) -> bool:
    """Whether the pieces of a text are those of its space-separated chunks, one after another.

    True of BERT's own normalization, unless an added token holds a space or swallows those
    around it.
    """
    steps = [(backend[step] or {}).get("type") for step in ("normalizer", "pre_tokenizer")]
    return steps == ["BertNormalizer", "BertPreTokenizer"] and not any(
        " " in token["content"] or token["lstrip"] or token["rstrip"]
        for token in backend["added_tokens"]
    )


def _read_tokenizer(text: str) -> Tokenizer:
    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # tokenizers raises bare Exception
        raise ValueError(f"not a tokenizer.json that tokenizers can read ({error})") from None


def _read_vocabulary(file: Path) -> dict[str, int]:
    """Token -> line number; lines end at a newline only, as in `transformers`."""
    try:
        lines = re.split("\r\n|\r|\n", file.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not a vocabulary in UTF-8 ({error.reason})") from None
    if not lines[-1]:
        lines.pop()
    return {token: number for number, token in enumerate(lines)}


def _is_capital(token: str) -> bool:
    """Whether a piece is one letter that lowercasing changes (it leaves some capitals, as "ℝ")."""
    return len(token) == 1 and token.lower() != token


def _read_settings(file: Path) -> dict[str, Any]:
    try:
        settings = json.loads(file.read_text(encoding="utf8"))
    except ValueError as error:
        raise ValueError(f"{file}: not JSON ({error})") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{file}: should hold a JSON object, holds {type(settings).__name__}")
    return settings


def _apply_settings(tokenizer: Tokenizer, settings: Mapping[str, Any]) -> None:
    """Let `tokenizer_config.json` shape the normalizer, as `BertTokenizerFast` does."""
    fields = json.loads(tokenizer.to_str())["normalizer"] or {}
    stated = {
        field: settings[name]
        for name, field in _NORMALIZER_FIELDS.items()
        # Of accents null says something: that they go where capitals go.
        if settings.get(name) is not None or (name in settings and field == "strip_accents")
    }
    for field, value in stated.items():
        if not isinstance(value, bool | None):
            raise ValueError(f"{SETTINGS_FILE}: {field} must be true or false, got {value!r}")
    if fields.pop("type", None) == "BertNormalizer" and stated:
        tokenizer.normalizer = normalizers.BertNormalizer(**{**fields, **stated})
