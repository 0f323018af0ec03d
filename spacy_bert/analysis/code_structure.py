"""Structure of code and of prose as graphs over the tokens of a Doc, for CAT-probing.

Of code it is the U-AST of Chen et al. 2022 ("CAT-probing"): the syntax tree with edges between
adjacent leaves and between occurrences of an identifier. The same over a dependency tree, for
prose, is this package's own extension.
"""

from __future__ import annotations

import ast
import io
import keyword
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import shortest_path
from spacy.tokens import Doc
from spacy.vocab import Vocab

Place: TypeAlias = "tuple[int, int]"  # line, from 1, and character in it
Extent: TypeAlias = "tuple[Place, Place]"  # first, and the one behind the last
Edges: TypeAlias = "list[tuple[int, int]]"

# What is in the tree of Python's `ast`, but has no place in the text of its own.
_NO_SYNTAX = (ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop)
# Literals with expressions inside are leaves: only some versions of Python say where these stand.
_LEAVES = tuple(getattr(ast, name) for name in ("JoinedStr", "TemplateStr") if hasattr(ast, name))
_OPENING = ("FSTRING_START", "TSTRING_START")
_CLOSING = ("FSTRING_END", "TSTRING_END")
_SOFT_KEYWORDS = tuple(getattr(ast, name) for name in ("Match", "TypeAlias") if hasattr(ast, name))
_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
IDENTIFIER, STRING, NUMBER = "identifier", "string", "number"


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """A graph whose first nodes are the tokens of a Doc.

    Attributes:
        doc: The Doc.
        types: Of each token: of code "identifier", "string", "number", or the keyword, operator or
            bracket itself; of prose the part of speech.
        edges: Pairs of nodes, undirected, (edges, 2) int; nodes from `len(doc)` on are inner ones.
    """

    doc: Doc
    types: tuple[str, ...]
    edges: np.ndarray

    def distances(self, tokens: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Edges of the shortest path between tokens, (tokens, tokens); infinite without a path.

        Args:
            tokens: Which ones; None for all.
        """
        wanted = np.arange(len(self.doc)) if tokens is None else np.asarray(tokens, dtype=np.int64)
        nodes = max(len(self.doc), int(self.edges.max(initial=-1)) + 1)
        ones = np.ones(len(self.edges))
        graph = csr_matrix((ones, (self.edges[:, 0], self.edges[:, 1])), shape=(nodes, nodes))
        if not len(wanted):
            return np.zeros((0, 0))
        paths = shortest_path(graph, method="D", directed=False, unweighted=True, indices=wanted)
        return np.asarray(paths[:, wanted])


@dataclass(frozen=True, kw_only=True)
class CodeToken:
    """A token of code.

    Attributes:
        text: As it is written.
        type: See `Structure`.
        extent: Where it stands.
    """

    text: str
    type: str
    extent: Extent


def read_code(code: str, vocab: Vocab) -> Structure:
    """The U-AST of Python code (Chen et al. 2022), by Python's own `ast`.

    Comments and docstrings are left out, as in the paper's data. A name or literal is a leaf, as
    in a parser's tree, and stands for the node that `ast` has for it; keywords, operators and
    brackets are leaves of the innermost node around them.

    Args:
        code: Whole statements: a module, or a function from its first column on.
        vocab: Of the Doc, whose tokens are those of the code. White space is one space or none,
            which BERT, that reads no lines, takes for the same.

    Raises:
        ValueError: If it is no valid Python of the version that runs, or has no tokens.
    """
    code = code.replace("\r\n", "\n").replace("\r", "\n")
    try:
        module = ast.parse(code)
        found = list(_tokens(code))
    except (SyntaxError, ValueError, tokenize.TokenError) as error:
        line = f"line {error.lineno}: " if isinstance(error, SyntaxError) else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ValueError(f"{line}not valid Python ({reason}): give whole statements") from None
    lines = code.split("\n")
    docstrings = list(_docstrings(module, lines))
    tokens = [one for one in found if not any(_covers(place, one.extent) for place in docstrings)]
    if not tokens:
        raise ValueError("the code has no tokens but comments and docstrings")
    nodes, parents, extents = _tree(module, lines, tokens)
    owners = _owners(parents, extents, tokens)
    types = [
        token.text
        if isinstance(nodes[owner], _SOFT_KEYWORDS) and keyword.issoftkeyword(token.text)
        else token.type
        for token, owner in zip(tokens, owners, strict=True)
    ]
    edges = _tree_edges(parents, owners)
    edges += pairwise(range(len(tokens)))
    edges += _repeated(
        (place, token.text)
        for place, (token, type_) in enumerate(zip(tokens, types, strict=True))
        if type_ == IDENTIFIER
    )
    return Structure(
        doc=_code_doc(tokens, vocab), types=tuple(types), edges=np.array(edges or [(0, 0)])
    )


def read_tree(doc: Doc) -> Structure:
    """A dependency tree in the form of the U-AST: this package's own extension to prose.

    Edges join a token with its head, with the token before it, and with the last occurrence of the
    same word (in any case).

    Args:
        doc: With heads, such as the readers of treebanks and parsers give; types are parts of
            speech (`token.pos_`), or where there are none, relations.

    Raises:
        ValueError: If it has no heads.
    """
    if not len(doc) or not doc.has_annotation("DEP"):
        raise ValueError(
            f"the Doc {doc.text[:40]!r} has no dependency tree: give Docs of a treebank, or parsed "
            "ones"
        )
    edges = [(token.i, token.head.i) for token in doc if token.head.i != token.i]
    edges += pairwise(range(len(doc)))
    edges += _repeated((token.i, token.text.lower()) for token in doc if token.text.isalpha())
    has_pos = doc.has_annotation("POS")
    types = tuple(token.pos_ if has_pos else token.dep_ for token in doc)
    return Structure(doc=doc, types=types, edges=_array(edges))


def _tokens(code: str) -> Iterator[CodeToken]:
    """The tokens, without comments and layout; a formatted string is one token."""
    depth, start = 0, (0, 0)
    lines = code.split("\n")
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        name = tokenize.tok_name[token.type]
        if name in _OPENING:
            start = start if depth else token.start
            depth += 1
        elif name in _CLOSING:
            depth -= 1
            if not depth:
                text = _between(lines, start, token.end)
                yield CodeToken(text=text, type=STRING, extent=(start, token.end))
        elif not depth and name in ("NAME", "NUMBER", "STRING", "OP"):
            yield CodeToken(
                text=token.string,
                type=_type(name, token.string),
                extent=(token.start, token.end),
            )


def _type(name: str, text: str) -> str:
    if name == "NAME" and not keyword.iskeyword(text):
        return IDENTIFIER
    return {"NUMBER": NUMBER, "STRING": STRING}.get(name, text)


def _between(lines: Sequence[str], start: Place, end: Place) -> str:
    rows = [*lines[start[0] - 1 : end[0] - 1], lines[end[0] - 1][: end[1]]]
    return "\n".join([rows[0][start[1] :], *rows[1:]])


def _tree(
    module: ast.Module, lines: Sequence[str], tokens: Sequence[CodeToken]
) -> tuple[list[ast.AST], list[int], list[Extent | None]]:
    """The nodes, parents before children; of each its parent (-1 of the module) and its extent."""
    nodes: list[ast.AST] = [module]
    parents = [-1]
    for place, node in enumerate(nodes):  # which grows behind
        if isinstance(node, _LEAVES):
            continue
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, _NO_SYNTAX):
                nodes.append(child)
                parents.append(place)
    extents = [_extent(node, lines) for node in nodes]
    for place in range(len(nodes) - 1, 0, -1):
        extents[place] = _with_decorators(nodes[place], extents[place], tokens)
        extents[parents[place]] = _union(extents[parents[place]], extents[place])
    return nodes, parents, extents


def _with_decorators(
    node: ast.AST, extent: Extent | None, tokens: Sequence[CodeToken]
) -> Extent | None:
    """An extent that begins with the first "@", which `ast` leaves out."""
    if extent is None or not getattr(node, "decorator_list", ()):
        return extent
    signs = [t.extent[0] for t in tokens if t.text == "@" and t.extent[0] < extent[0]]
    return (signs[-1], extent[1]) if signs else extent


def _extent(node: Any, lines: Sequence[str]) -> Extent | None:
    """Where a node stands, in characters; None if `ast` does not tell."""
    if getattr(node, "end_lineno", None) is None:
        return None
    start = node.lineno, _character(lines[node.lineno - 1], node.col_offset)
    return start, (node.end_lineno, _character(lines[node.end_lineno - 1], node.end_col_offset))


def _character(line: str, byte: int) -> int:
    return byte if line.isascii() else len(line.encode()[:byte].decode())


def _union(one: Extent | None, other: Extent | None) -> Extent | None:
    if one is None or other is None:
        return one or other
    return min(one[0], other[0]), max(one[1], other[1])


def _covers(outer: Extent | None, inner: Extent) -> bool:
    return outer is not None and outer[0] <= inner[0] and inner[1] <= outer[1]


def _docstrings(module: ast.Module, lines: Sequence[str]) -> Iterator[Extent | None]:
    for node in ast.walk(module):
        if isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node, clean=False) is not None:
            yield _extent(node.body[0], lines)


def _owners(
    parents: Sequence[int], extents: Sequence[Extent | None], tokens: Iterable[CodeToken]
) -> list[int]:
    """The innermost node around each token."""
    children: list[list[int]] = [[] for _ in parents]
    for place, parent in enumerate(parents[1:], start=1):
        children[parent].append(place)
    owners = []
    for token in tokens:
        around = [0]
        while around:
            owner = around[0]
            around = [child for child in children[owner] if _covers(extents[child], token.extent)]
        owners.append(owner)
    return owners


def _tree_edges(parents: Sequence[int], owners: Sequence[int]) -> Edges:
    """Edges of the tree; a token takes the place of a childless node that it is alone in."""
    first = len(owners)
    inner, own = set(parents), np.bincount(owners, minlength=len(parents))
    leaves = {owner for owner in owners if owner and owner not in inner and own[owner] == 1}
    edges = [
        (first + node, first + parent)
        for node, parent in enumerate(parents)
        if node and node not in leaves
    ]
    return edges + [
        (token, first + (parents[owner] if owner in leaves else owner))
        for token, owner in enumerate(owners)
    ]


def _array(edges: Edges) -> np.ndarray:
    return np.array(edges, dtype=np.int64).reshape(-1, 2)


def _repeated(words: Iterable[tuple[int, str]]) -> Edges:
    """Edges from each occurrence of a word to the one before it."""
    last: dict[str, int] = {}
    edges = []
    for place, word in words:
        if word in last:
            edges.append((last[word], place))
        last[word] = place
    return edges


def _code_doc(tokens: Sequence[CodeToken], vocab: Vocab) -> Doc:
    ends = [token.extent[1] for token in tokens]
    starts = [token.extent[0] for token in tokens[1:]]
    spaces = [end != start for end, start in zip(ends, starts, strict=False)]
    return Doc(vocab, words=[token.text for token in tokens], spaces=[*spaces, False])
