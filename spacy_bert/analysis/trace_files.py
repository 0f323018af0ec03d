"""Traces on disk: one safetensors file for any number of Docs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from spacy.tokens import DocBin
from spacy.vocab import Vocab

from spacy_bert.analysis.trace import Computed, Reading, Trace
from spacy_bert.files import replacing

_ARRAYS = ("offsets", "segment_ids", "overlaps", "align_pieces", "align_lengths")
_FORM = "spacy_bert traces 1"


def save_traces(traces: Iterable[Trace], path: Path, *, attention: bool = True) -> None:
    """Write traces with their Docs, complete or not at all.

    Args:
        traces: What `spacy_bert.trace` gives; all that is written is computed, if it is not yet.
        path: The file, by custom named `.safetensors`.
        attention: Whether attention is written too: layers x heads numbers for each pair of pieces
            of a window, beside layers x hidden size for each piece.
    """
    tensors: dict[str, np.ndarray] = {}
    docs = DocBin(store_user_data=False)
    words = []
    for number, trace in enumerate(traces):
        docs.add(trace.doc)
        if attention:  # first: it gives the hidden states too
            for window, weights in enumerate(trace.attentions):
                tensors[f"{number}.attention.{window}"] = np.ascontiguousarray(weights)
        tensors[f"{number}.hidden"] = np.ascontiguousarray(trace.hidden)
        for name in _ARRAYS:
            array = getattr(trace.reading, name)
            tensors[f"{number}.{name}"] = np.ascontiguousarray(array).astype(np.int64)
        words.append({"pieces": trace.pieces, "lengths": list(trace.reading.lengths)})
    tensors["docs"] = np.frombuffer(docs.to_bytes(), dtype=np.uint8).copy()
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"form": _FORM, "readings": json.dumps(words)})


def load_traces(path: Path, vocab: Vocab | None = None) -> list[Trace]:
    """Read traces back; their numbers are read from the file when they are asked for.

    Args:
        path: The file.
        vocab: Of the Docs; by default a new one.

    Raises:
        ValueError: If the file is none that `save_traces` wrote.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("form") != _FORM:
                raise ValueError(f"{path}: holds no traces; save_traces writes them")
            names = set(file.keys())
            found = file.get_tensor("docs").tobytes()
            readings = [
                Reading(
                    pieces=words["pieces"],
                    lengths=tuple(words["lengths"]),
                    **{name: file.get_tensor(f"{number}.{name}") for name in _ARRAYS},
                )
                for number, words in enumerate(json.loads(metadata["readings"]))
            ]
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as traces ({error})") from None
    docs = DocBin().from_bytes(found).get_docs(vocab or Vocab())
    return [
        Trace(doc, reading, _Reader(path, number, f"{number}.attention.0" in names))
        for number, (doc, reading) in enumerate(zip(docs, readings, strict=True))
    ]


class _Reader:
    """Takes a Doc's numbers from the file."""

    def __init__(self, path: Path, number: int, has_attention: bool) -> None:
        self._path, self._number, self._has_attention = path, number, has_attention

    def __call__(self, attention: bool) -> Computed:
        prefix = f"{self._number}."
        with safe_open(self._path, framework="numpy") as file:
            hidden = file.get_tensor(f"{prefix}hidden")
            if not attention or not self._has_attention:
                return hidden, None
            windows = sum(name.startswith(f"{prefix}attention.") for name in file.keys())  # noqa: SIM118
            names = [f"{prefix}attention.{window}" for window in range(windows)]
            return hidden, [file.get_tensor(name) for name in names]
