"""Structure of code: every token has its place in the tree, distances are those of the U-AST."""

from __future__ import annotations

import ast
import inspect
import textwrap
import tokenize
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from spacy.tokens import Doc
from spacy.vocab import Vocab

from spacy_bert.analysis.code_structure import Structure, read_code, read_tree

VOCAB = Vocab()
DEFINITIONS = ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef


def words(structure: Structure) -> list[str]:
    return [token.text for token in structure.doc]


def test_distances_by_hand() -> None:
    # One node, the assignment, whose leaves are the three tokens.
    assert read_code("a = b", VOCAB).distances().tolist() == [[0, 1, 2], [1, 0, 1], [2, 1, 0]]
    # The last identifier is joined with the first.
    assert read_code("a = a", VOCAB).distances().tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]
    # Assign(f, "=", BinOp(BinOp(a, "*", b), "+", c)): f to c over two nodes, f to a over three.
    found = read_code("f = a * b + c", VOCAB)
    assert words(found) == ["f", "=", "a", "*", "b", "+", "c"]
    by_name = dict(zip(words(found), found.distances().tolist(), strict=True))
    assert by_name["f"] == [0, 1, 2, 3, 4, 3, 3]
    assert by_name["a"] == [2, 1, 0, 1, 2, 3, 3]
    assert found.distances([0, 6]).tolist() == [[0, 3], [3, 0]]


def naive(structure: Structure) -> list[list[float]]:
    """Breadth first from every token, over lists of neighbours."""
    near: dict[int, set[int]] = {}
    for one, other in structure.edges.tolist():
        near.setdefault(one, set()).add(other)
        near.setdefault(other, set()).add(one)
    rows = []
    for start in range(len(structure.doc)):
        reached, queue = {start: 0}, deque([start])
        while queue:
            node = queue.popleft()
            for other in near.get(node, ()):
                if other not in reached:
                    reached[other] = reached[node] + 1
                    queue.append(other)
        rows.append([reached[token] for token in range(len(structure.doc))])
    return rows


CLASS = "class C(B, m=M):\n    async def f(self, *, x: int = 0) -> None:\n        yield x\n"


@pytest.mark.parametrize(
    "code", [inspect.getsource(textwrap.indent), inspect.getsource(tokenize.open), CLASS]
)
def test_distances_of_real_code(code: str) -> None:
    structure = read_code(code, VOCAB)
    distances = structure.distances()
    assert distances.tolist() == naive(structure)
    assert (distances == distances.T).all()
    assert distances.max() > 3


@pytest.mark.parametrize("module", [ast, textwrap, inspect, tokenize])
def test_whole_modules(module: object) -> None:
    code = Path(inspect.getfile(module)).read_text(encoding="utf8")  # type: ignore[arg-type]
    structure = read_code(code, VOCAB)
    # Names, definitions and classes are those of the tree, without what docstrings say.
    tree = ast.parse(code)
    for node in ast.walk(tree):
        documented = isinstance(node, (ast.Module, *DEFINITIONS))
        if documented and ast.get_docstring(node) is not None:
            node.body.pop(0)
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    inside = [
        name.id
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for name in ast.walk(node)
        if isinstance(name, ast.Name)
    ]
    of_types = dict(zip(words(structure), structure.types, strict=True))
    assert set(names) - set(inside) <= {t for t, kind in of_types.items() if kind == "identifier"}
    definitions = sum(isinstance(node, DEFINITIONS) for node in ast.walk(tree))
    assert structure.types.count("def") + structure.types.count("class") == definitions
    # One graph, and no token outside of the tree.
    nodes = structure.edges.max() + 1
    graph = csr_matrix((np.ones(len(structure.edges)), structure.edges.T), shape=(nodes, nodes))
    _, labels = connected_components(graph, directed=False)
    assert len(set(labels[np.unique(structure.edges)])) == 1
    inner = (structure.edges >= len(structure.doc)).sum(axis=1)
    tokens = structure.edges.min(axis=1)
    assert (np.bincount(tokens[inner == 1], minlength=len(structure.doc)) == 1).all()


def parents(code: str) -> dict[str, list[str]]:
    """The tokens under each inner node that has some, by the first of them."""
    structure = read_code(code, VOCAB)
    groups: dict[int, list[str]] = {}
    for one, other in structure.edges.tolist():
        if one < len(structure.doc) <= other:
            groups.setdefault(other, []).append(structure.doc[one].text)
    return {group[0]: group for group in groups.values()}


def test_tokens_are_under_the_innermost_node() -> None:
    code = '@cache(1)\ndef f(x, *, é="ü", **z) -> int:\n    return g(x)[0]  # why\n'
    assert parents(code) == {
        "@": ["@", "def", "f", "(", ")", "->", "int", ":"],
        "cache": ["cache", "(", "1", ")"],
        "x": ["x", ",", "*", ",", "é", "=", '"ü"', ",", "**", "z"],
        "return": ["return"],
        "g": ["g", "(", "x", ")"],
        "[": ["[", "0", "]"],
    }
    code = "match x:\n    case [match, *_] if x:\n        pass\n"
    structure = read_code(code, VOCAB)
    kinds = dict(zip(enumerate(words(structure)), structure.types, strict=True))
    assert kinds[0, "match"] == "match"
    assert kinds[5, "match"] == "identifier"
    assert "case" in structure.types


def test_types() -> None:
    found = read_code("if x1 is not None:\n    y = 'a' 'b' + f'{x1!r:>{w}} {f(1)}' + 0x1F", VOCAB)
    assert list(zip(words(found), found.types, strict=True)) == [
        ("if", "if"),
        ("x1", "identifier"),
        ("is", "is"),
        ("not", "not"),
        ("None", "None"),
        (":", ":"),
        ("y", "identifier"),
        ("=", "="),
        ("'a'", "string"),
        ("'b'", "string"),
        ("+", "+"),
        ("f'{x1!r:>{w}} {f(1)}'", "string"),
        ("+", "+"),
        ("0x1F", "number"),
    ]


def test_the_text_of_the_doc() -> None:
    code = '"""Doc."""\r\nclass A:\r\n    """Doc."""\r\n\r\n    x=1;y = -x # no\r\n'
    assert read_code(code, VOCAB).doc.text == "class A: x=1;y = -x"
    long = 'x = f"""{a}\nb {c}"""'
    assert words(read_code(long, VOCAB)) == ["x", "=", 'f"""{a}\nb {c}"""']


def test_what_is_no_code() -> None:
    with pytest.raises(ValueError, match=r"line 2: not valid Python \(.*\): give whole statements"):
        read_code("x = 1\ny = = 2", VOCAB)
    with pytest.raises(ValueError, match="line 1: not valid Python"):
        read_code("    def f(self): pass", VOCAB)
    with pytest.raises(ValueError, match="not valid Python"):
        read_code("x = 1\0", VOCAB)
    with pytest.raises(ValueError, match="no tokens but comments"):
        read_code('"""Only prose."""\n# And this.\n', VOCAB)


def test_dependency_trees() -> None:
    words = ["The", "dog", "saw", "the", "cat", "."]
    doc = Doc(VOCAB, words=words, heads=[1, 2, 2, 4, 2, 2], deps=["d", "s", "ROOT", "d", "o", "p"])
    structure = read_tree(doc)
    assert structure.types == ("d", "s", "ROOT", "d", "o", "p")
    distances = structure.distances()
    assert distances.tolist() == naive(structure)
    assert distances[0, 3] == 1.0  # the same word
    assert distances[1, 4] == 2.0  # over the verb
    assert distances[3, 5] == 2.0
    with pytest.raises(ValueError, match="has no dependency tree"):
        read_tree(Doc(VOCAB, words=["a"]))
