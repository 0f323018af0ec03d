"""The ways to a BERT's vectors, and the pipelines, that benchmarks/inference.py compares."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import spacy
import torch
from spacy.cli.init_config import init_config
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import to_numpy
from transformers import AutoTokenizer, BertModel

from spacy_bert.bert.precision import has_bf16, has_int8

BATCH = 32  # of those who take sentences, the default of sentence-transformers and HF's examples
# Gives (pieces, width) of each text, [CLS] and [SEP] included.
Encode = Callable[[Sequence[str]], Iterator[np.ndarray]]

OURS, STOCK = "spacy_bert", "spacy-transformers"
GIVEN, SORTED = "Hugging Face, given order", "Hugging Face, sorted"
SENTENCE = "sentence-transformers"
CUTS_OFF = (GIVEN, SORTED, SENTENCE)  # what is longer than the network has positions


def precisions(device: torch.device) -> list[str]:
    """Of ours, those that a device is faster in, and fp32."""
    low = {"bf16": has_bf16(device), "int8": device.type == "cpu" and has_int8()}
    return ["fp32", *(name for name, there in low.items() if there)]


def systems(encoder: str, device: torch.device) -> dict[str, Encode]:
    """What can be had here, warm; spaCy's pipelines are where spaCy has been told to be."""
    found = {f"{OURS}, {name}": by_spacy(ours(encoder, name)) for name in precisions(device)}
    found[STOCK] = by_spacy(stock(encoder))
    found[GIVEN] = hugging_face(encoder, device, by_length=False)
    found[SORTED] = hugging_face(encoder, device, by_length=True)
    if importlib.util.find_spec("sentence_transformers"):
        found[SENTENCE] = sentence_transformers(encoder, device)
    return found


def ours(encoder: str, precision: str) -> Language:
    """A pipeline of `bert` alone."""
    nlp = spacy.blank("en")
    nlp.add_pipe("bert", config={"model": {"name": encoder, "precision": precision}})
    nlp.initialize()
    return nlp


def stock(encoder: str) -> Language:
    """A pipeline of spacy-transformers' `transformer` alone, as it comes."""
    nlp = spacy.blank("en")
    nlp.add_pipe("transformer", config={"model": {"name": encoder}})
    nlp.initialize()
    return nlp


def by_spacy(nlp: Language) -> Encode:
    """What a pipeline's encoder says, by `nlp.pipe` as it comes."""

    def run(texts: Sequence[str]) -> Iterator[np.ndarray]:
        for doc in nlp.pipe(texts):
            states: np.ndarray = to_numpy(doc._.trf_data.model_output.last_hidden_state)
            yield states.reshape(-1, states.shape[-1])

    return run


def hugging_face(encoder: str, device: torch.device, *, by_length: bool) -> Encode:
    """BertModel by padded batches, in the order given or sorted by length."""
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    model = BertModel.from_pretrained(encoder).eval().to(device)

    @torch.inference_mode()
    def run(texts: Sequence[str]) -> Iterator[np.ndarray]:
        if by_length:
            texts = sorted(texts, key=len)
        for start in range(0, len(texts), BATCH):
            batch = list(texts[start : start + BATCH])
            encoded = tokenizer(batch, padding=True, truncation=True, return_tensors="pt")
            states = model(**encoded.to(device)).last_hidden_state.cpu().numpy()
            for row, mask in zip(states, encoded.attention_mask.cpu().numpy(), strict=True):
                yield row[: mask.sum()]

    return run


def sentence_transformers(encoder: str, device: torch.device) -> Encode:
    """The vectors of all pieces, of sentence-transformers, which sorts by length itself."""
    from sentence_transformers import (  # type: ignore[import-not-found]
        SentenceTransformer,
        models,
    )

    model = SentenceTransformer(modules=[models.Transformer(encoder)], device=str(device))

    def run(texts: Sequence[str]) -> Iterator[np.ndarray]:
        found = model.encode(list(texts), batch_size=BATCH, output_value="token_embeddings")
        return (each.cpu().numpy() for each in found)

    return run


# Pipelines: random heads, since the time does not depend on what they say.


def pipelines(encoder: str, device: torch.device, *, textcat: bool) -> dict[str, Language]:
    """An encoder with entities, and classes if wanted: ours, and as `spacy init config` has it."""
    parts = ["ner", *(["textcat"] if textcat else [])]
    found = {}
    for precision in precisions(device):
        nlp = ours(encoder, precision)
        for part in parts:
            nlp.add_pipe(f"bert_{part}")
        found[f"{OURS}, {precision}"] = nlp
    config = init_config(lang="en", pipeline=parts, optimize="efficiency", gpu=True, silent=True)
    config["components"]["transformer"]["model"]["name"] = encoder
    found[STOCK] = spacy.util.load_model_from_config(config, auto_fill=True)
    for nlp in found.values():
        nlp.initialize(partial(_examples, nlp))
    return found


def _examples(nlp: Language) -> list[Example]:
    pairs = "Ada/B-PER Lovelace/I-PER wrote/O to/O the/O Royal/B-ORG Society/I-ORG ./O"
    words, tags = zip(*(pair.split("/") for pair in pairs.split(" ")), strict=True)
    reference = Doc(nlp.vocab, words=list(words), ents=list(tags))
    reference.cats = {"LETTER": 1.0, "OTHER": 0.0}
    return [Example(Doc(nlp.vocab, words=list(words)), reference)]


def read_texts(path: Path, count: int) -> list[str]:
    """The texts of a file: of the Docs of a `.spacy`, or the lines of any other.

    Raises:
        ValueError: If there is none.
    """
    if path.suffix == ".spacy":
        docs = spacy.tokens.DocBin().from_disk(path).get_docs(spacy.blank("en").vocab)
        found: list[Any] = [doc.text for doc in docs]
    else:
        found = path.read_text(encoding="utf8").splitlines()
    texts = [text.strip() for text in found if text.strip()][:count]
    if not texts:
        raise ValueError(f"{path}: there is no text in it")
    return texts
