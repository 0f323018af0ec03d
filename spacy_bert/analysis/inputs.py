"""What analyses read: pipelines or checkpoints, and Docs in any of the forms that are at hand."""

from __future__ import annotations

import ast
import importlib.util
import tokenize
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Corpus, Example

from spacy_bert.analysis.inside import find_shim
from spacy_bert.bert.encoder import initialize
from spacy_bert.datasets.conllu import read_conllu
from spacy_bert.datasets.squad import read_squad
from spacy_bert.datasets.writing import BadRows
from spacy_bert.mistaken import is_pipeline
from spacy_bert.pipeline.from_hf import from_hf
from spacy_bert.pretraining.corpus import open_text


def load_pipeline(model: str) -> Language:
    """A pipeline with an encoder.

    Args:
        model: A saved pipeline, the name of an installed one, or the checkpoint of a BERT, which
            becomes a pipeline of `bert` and, if it has one, the head of a task.

    Raises:
        ValueError: If it is none of these.
    """
    path = Path(model)
    if is_pipeline(path):
        return spacy.load(path)
    if path.is_dir():
        return from_hf(path)
    if not spacy.util.is_package(model):
        raise ValueError(
            f"{model}: is neither a saved pipeline or checkpoint nor an installed pipeline"
        )
    return spacy.load(model)


def load_random(model: str, *, component: str | None = None, seed: int = 0) -> Language:
    """The same pipeline, its encoder's weights drawn at random: what an analysis finds by chance.

    Args:
        model: As for `load_pipeline`.
        component: Name of the component whose encoder is meant, if there are several.
        seed: Of the draws, which are those of a BERT before pre-training.

    Raises:
        ValueError: If there is no such pipeline, or its encoder is not ours.
    """
    nlp = load_pipeline(model)
    shim = find_shim(nlp, component)
    network = shim.network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        initialize(network, std=network.config.initializer_range)
    for module in network.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.reset_parameters()
    shim.take(network, shim.wordpiece)
    return nlp


def load_named(models: Iterable[str]) -> dict[str, Language]:
    """Pipelines by name.

    Args:
        models: `NAME=MODEL` each, the model as for `load_pipeline`.

    Raises:
        ValueError: If one has another form, a name comes twice, or there is no such model.
    """
    found: dict[str, Language] = {}
    for each in models:
        name, _, model = each.partition("=")
        if not name or not model or name in found:
            raise ValueError(f"{each!r}: give NAME=MODEL, each name once")
        found[name] = load_pipeline(model)
    return found


def read_docs(nlp: Language, file: Path, *, limit: int | None = None) -> list[Doc]:
    """Docs as they are in a file, with what is annotated there.

    Args:
        nlp: Its vocabulary is used, and its tokenizer for texts.
        file: `.spacy`, `.conllu` (a treebank), `.json` in the form of SQuAD, or a text with a Doc
            in each line that is not blank (`.txt`); all but the first also with `.gz`.
        limit: Docs at most; None for all.

    Raises:
        ValueError: If the file has another ending, cannot be read or holds no Docs; names it.
    """
    suffix = next((end for end in reversed(file.suffixes) if end != ".gz"), "")
    if suffix not in _READERS:
        raise ValueError(f"{file}: must end in {', '.join(_READERS)} (or with .gz behind it)")
    if not file.is_file():
        raise ValueError(f"{file}: there is no such file")
    docs = list(islice((doc for doc in _READERS[suffix](nlp, file) if len(doc)), limit))
    if not docs:
        raise ValueError(f"{file}: holds no Docs with tokens")
    return docs


def read_examples(nlp: Language, file: Path, *, limit: int | None = None) -> list[Example]:
    """The gold standard of a file, beside Docs without annotations that the pipeline is to read.

    Args:
        nlp: The pipeline, which tokenizes the texts as in training.
        file: As for `read_docs`.
        limit: Examples at most; None for all.

    Raises:
        ValueError: If the file has another ending, cannot be read or holds no Docs; names it.
    """
    if file.suffix == ".spacy" and file.is_file():
        found = list(islice(Corpus(file)(nlp), limit))
        if not found:
            raise ValueError(f"{file}: holds no Docs")
        return found
    return [Example(nlp.make_doc(doc.text), doc) for doc in read_docs(nlp, file, limit=limit)]


def read_functions(sources: Sequence[Path], *, limit: int | None = None) -> list[str]:
    """The functions of Python files, each by itself, without the indentation that it has there.

    Args:
        sources: Files, directories of them, which are gone through in order, or names of top-level
            modules, such as `json`, which are read but not imported.
        limit: Functions at most; None for all.

    Raises:
        ValueError: If a file is not valid Python, or there is no function; names it.
    """
    places = [_find_module(source) for source in sources]
    files = [
        file
        for place in places
        for file in (sorted(place.rglob("*.py")) if place.is_dir() else [place])
    ]
    found = list(islice((code for file in files for code in _functions(file)), limit))
    if not found:
        raise ValueError(f"{', '.join(map(str, sources))}: no function in any Python file")
    return found


def _find_module(source: Path) -> Path:
    """Where a module is; what is no module's name stays as it is."""
    if source.exists() or not str(source).isidentifier():
        return source
    found = importlib.util.find_spec(str(source))
    if found is None or not found.has_location or found.origin is None:
        return source
    return Path(found.origin).parent if found.submodule_search_locations else Path(found.origin)


def _functions(file: Path) -> Iterator[str]:
    try:
        with tokenize.open(file) as stream:  # as Python reads it: byte order mark, coding line
            text = stream.read()
        tree = ast.parse(text)
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError) as error:
        raise ValueError(f"{file}: cannot be read as Python ({error})") from None
    lines = text.split("\n")  # what `splitlines` takes for a border besides, Python does not
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            own = lines[first - 1 : node.end_lineno]
            indent = own[0][: len(own[0]) - len(own[0].lstrip())]
            # Inside a string or brackets a line may stand further to the left.
            yield "\n".join(line.removeprefix(indent) for line in own) + "\n"


def _read_spacy(nlp: Language, file: Path) -> Iterator[Doc]:
    try:
        docs = DocBin().from_disk(file)
    except Exception as error:  # of several libraries, for damaged files
        raise ValueError(f"{file}: is no .spacy file ({error})") from None
    return docs.get_docs(nlp.vocab)


def _read_treebank(nlp: Language, file: Path) -> Iterable[Doc]:
    return read_conllu(file, nlp.vocab)


def _read_questions(nlp: Language, file: Path) -> Iterable[Doc]:
    return read_squad(file, nlp, BadRows())


def _read_lines(nlp: Language, file: Path) -> Iterator[Doc]:
    with open_text(file) as lines:
        for line in lines:
            if line.strip():
                yield nlp.make_doc(line.strip())


_READERS: dict[str, Callable[[Language, Path], Iterable[Doc]]] = {
    ".spacy": _read_spacy,
    ".conllu": _read_treebank,
    ".json": _read_questions,
    ".txt": _read_lines,
}
