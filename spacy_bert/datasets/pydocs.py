"""The embedded corpus: Python's own documentation, which every machine with Python has.

Two sources: the language reference that `help()` shows (`pydoc_data.topics`) and the docstrings of
the standard library. Both are read with `ast` from the source files: nothing is imported or run.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from spacy_bert.datasets.prose import clean_sentences, sections
from spacy_bert.files import replacing

LIBRARY = Path(ast.__file__).parent
MAX_PER_MODULE = 80  # documents; a few modules have nearly two hundred, all of one shape

# Tests, other people's code, code for old Pythons, machine-made tables, and `_pydecimal`, whose
# text is that of the `decimal` written in C.
_SKIPPED = re.compile(
    "tests?|idlelib|tkinter|turtledemo|distutils|lib2to3|ensurepip|encodings|pydoc_data|_pydecimal"
)


@dataclass(frozen=True)
class Docstring:
    """One docstring as it stands in its source.

    Attributes:
        module: Dotted name of the module, a package by its own name (`email`, `email.message`).
        name: Qualified name inside of the module, empty for the module's own docstring.
        text: The text, indented as in the source.
        parameters: Names of the function's parameters (a class's: of its `__init__`), without
            `self` and `cls`.
    """

    module: str
    name: str
    text: str
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Document:
    """Clean prose: the sentences of one docstring, or of one section of the language reference.

    Attributes:
        source: Name of the module or topic.
        sentences: The sentences, each a line of its own.
        docstring: What they were taken from, if it was a docstring.
    """

    source: str
    sentences: tuple[str, ...]
    docstring: Docstring | None = field(default=None, compare=False, repr=False)

    @property
    def text(self) -> str:
        """The sentences in one line."""
        return " ".join(self.sentences)


def read_docstrings(root: Path | None = None) -> Iterator[Docstring]:
    """The docstrings of the standard library, module by module in order of name.

    Args:
        root: Directory of the library's sources; default: that of the running Python.

    Raises:
        FileNotFoundError: If there are no Python sources there.
    """
    root = root or LIBRARY
    modules = dict(_modules(root))
    if not modules:
        raise FileNotFoundError(f"{root}: no Python source files; name the library with --library")
    for module, path in sorted(modules.items()):
        yield from _module_docstrings(module, path)


def read_topics(root: Path | None = None) -> dict[str, str]:
    """The language reference as `help()` shows it, by topic.

    Returns:
        Name of the topic to text; empty where the distribution of Python leaves it out.
    """
    path = (root or LIBRARY) / "pydoc_data" / "topics.py"
    if not path.exists():
        return {}
    for statement in _parse(path).body:
        if isinstance(statement, ast.Assign):
            topics: dict[str, str] = ast.literal_eval(statement.value)
            return dict(sorted(topics.items()))
    return {}


def documents(docstrings: Iterable[Docstring]) -> Iterator[Document]:
    """Clean docstrings and leave out repeats, empty ones and those over `MAX_PER_MODULE`."""
    seen: set[str] = set()
    count: dict[str, int] = {}
    for docstring in docstrings:
        sentences = clean_sentences(docstring.text)
        # A docstring that says nothing new is a copy, as those of overridden methods are.
        if seen.issuperset(sentences) or count.get(docstring.module, 0) >= MAX_PER_MODULE:
            continue
        seen.update(sentences)
        count[docstring.module] = count.get(docstring.module, 0) + 1
        yield Document(docstring.module, tuple(sentences), docstring)


def topic_documents(topics: dict[str, str]) -> Iterator[Document]:
    """The sections of the language reference; what several topics share is given once."""
    seen: set[str] = set()
    for topic, text in topics.items():
        for section in sections(text):
            sentences = clean_sentences(section)
            if not seen.issuperset(sentences):
                seen.update(sentences)
                yield Document(f"topic:{topic}", tuple(sentences))


def write_corpus(docs: Iterable[Document], path: Path) -> None:
    """Write the text for pre-training: a sentence a line, a blank line after each document."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for doc in docs:
            file.write("\n".join(doc.sentences) + "\n\n")


def _modules(root: Path) -> Iterator[tuple[str, Path]]:
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        # Directories that no import could name, such as `site-packages`, are not the library.
        if all(part.isidentifier() and not _SKIPPED.fullmatch(part) for part in parts):
            yield ".".join(parts), path


def _module_docstrings(module: str, path: Path) -> Iterator[Docstring]:
    try:
        tree = _parse(path)
    except SyntaxError:  # some templates and examples of broken code end in .py
        return
    yield from _node_docstrings(module, "", tree)


def _node_docstrings(module: str, name: str, node: ast.AST) -> Iterator[Docstring]:
    definitions = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(node, (ast.Module, *definitions)):
        text = ast.get_docstring(node, clean=False)
        if text:
            yield Docstring(module, name, text, _parameters(node))
    for child in ast.iter_child_nodes(node):
        if isinstance(child, definitions):
            yield from _node_docstrings(module, f"{name}.{child.name}".lstrip("."), child)
        else:
            yield from _node_docstrings(module, name, child)


def _parameters(node: ast.AST) -> tuple[str, ...]:
    if isinstance(node, ast.ClassDef):
        functions = [child for child in node.body if isinstance(child, ast.FunctionDef)]
        return next((_parameters(f) for f in functions if f.name == "__init__"), ())
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return ()
    arguments = node.args
    found = [*arguments.posonlyargs, *arguments.args, arguments.vararg]
    found += [*arguments.kwonlyargs, arguments.kwarg]
    names = (argument.arg for argument in found if argument is not None)
    return tuple(name for name in names if name not in ("self", "cls"))


def _parse(path: Path) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's strings
        return ast.parse(path.read_bytes(), filename=str(path))
