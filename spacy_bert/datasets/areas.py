"""A text-classification set derived from Python's documentation: the area of a docstring.

The labels are *derived*, not annotated: an area is a group of chapters of the Library Reference,
and a docstring has the area of the module that it stands in, whether or not its text shows it. So
no system can be perfect, and scores mean something only beside each other's.

Modules, not docstrings, are divided into train, dev and test, and names that give the module away
are masked (see `mask_module`), so that the words of the text must decide.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from spacy_bert.files import replacing

if TYPE_CHECKING:
    from spacy_bert.datasets.pydocs import Document

# Chapters of the Library Reference -> names of modules; a package stands for its submodules.
AREAS = {
    # Data Types, Numeric and Mathematical Modules, Functional Programming Modules
    "DATA": """
        _collections_abc _pydatetime _pylong _strptime _weakrefset array bisect calendar cmath
        collections colorsys copy datetime decimal enum fractions functools graphlib heapq itertools
        math numbers operator pprint random reprlib statistics types weakref zoneinfo
    """,
    # Text Processing Services, Structured Markup, File Formats, Internationalization
    "TEXT": """
        _markupbase cmd codecs configparser csv difflib gettext html json locale netrc plistlib re
        shlex sre_compile sre_constants sre_parse string stringprep textwrap tomllib xml
    """,
    # File and Directory Access, Data Persistence, Data Compression and Archiving
    "FILES": """
        _compression bz2 compression copyreg dbm filecmp fileinput fnmatch genericpath glob gzip
        linecache lzma marshal ntpath nturl2path pathlib pickle pickletools posixpath shelve shutil
        sqlite3 stat tarfile tempfile zipfile
    """,
    # Generic Operating System Services, Command-line Interface Libraries, Unix Services
    "SYSTEM": """
        _aix_support _osx_support _pyio argparse crypt ctypes curses getopt getpass hashlib hmac io
        logging optparse os pipes platform pty secrets signal time tty
    """,
    # Concurrent Execution, asyncio
    "CONCURRENCY": """
        _threading_local asyncio concurrent contextvars multiprocessing queue sched subprocess
        threading
    """,
    # Internet Data Handling
    "MAIL": """
        base64 binascii binhex email imaplib mailbox mailcap mimetypes nntplib poplib quopri smtpd
        smtplib uu
    """,
    # Internet Protocols and Support, Networking
    "NETWORK": """
        asynchat asyncore cgi cgitb ftplib http ipaddress selectors socket socketserver ssl
        telnetlib urllib uuid webbrowser wsgiref xmlrpc
    """,
    # Development Tools, Debugging and Profiling
    "TESTING": """
        bdb cProfile doctest faulthandler pdb profile pstats pydoc timeit trace tracemalloc typing
        unittest
    """,
    # Python Runtime Services, Importing Modules, Python Language Services
    "RUNTIME": """
        __future__ _bootsubprocess _py_abc _sitebuiltins abc ast code codeop compileall contextlib
        dataclasses dis imp importlib inspect keyword modulefinder opcode pkgutil py_compile pyclbr
        runpy site symtable sysconfig tabnanny token tokenize traceback venv warnings zipapp
        zipimport
    """,
}
_AREA_OF = {module: area for area, modules in AREAS.items() for module in modules.split()}

SPLITS = {"train": 0.75, "dev": 0.1, "test": 0.15}  # shares of the documents of every area
MIN_WORDS = 6  # shorter texts ("Return the value.") say nothing of their area
MAX_SENTENCES = 4  # the opening of a docstring; what follows costs time and tells no more
MASK = "X"


@dataclass(frozen=True)
class LabelledText:
    """A masked docstring with the area of its module."""

    text: str
    area: str
    module: str


def area_of(module: str) -> str | None:
    """The area of a module or submodule; None if it belongs to none that is large enough."""
    return _AREA_OF.get(module.partition(".")[0])


def mask_module(text: str, module: str) -> str:
    """Replace every word that is a part of the module's dotted name by `MASK`, in any case.

    Otherwise `ZipFile` or "this asyncio loop" would give the answer without being read. Other names
    that a module defines stay: they are what its documentation is about.
    """
    parts = {part.strip("_") for part in module.split(".")}
    names = "|".join(sorted(map(re.escape, filter(None, parts)), key=len, reverse=True))
    return re.sub(rf"(?<![^\W_])_*(?:{names})(?![^\W_])", MASK, text, flags=re.IGNORECASE)


def split_modules(documents: Iterable[Document]) -> dict[str, str]:
    """Give every module with an area to one split, so that each area's shares come near `SPLITS`.

    The order is that of a hash of the name: the same on every machine, and blind to the alphabet.

    Returns:
        Module to "train", "dev" or "test".
    """
    sizes: dict[str, Counter[str]] = defaultdict(Counter)
    for document in documents:
        area = area_of(document.source)
        if area is not None:
            sizes[area][document.source] += 1
    splits = {}
    for counts in sizes.values():
        total, filled = counts.total(), Counter[str]()
        for module in sorted(counts, key=lambda name: hashlib.sha256(name.encode()).digest()):
            size = counts[module]
            split = min(SPLITS, key=lambda name: (filled[name] + size) / (SPLITS[name] * total))
            splits[module] = split
            filled[split] += size
    return splits


def labelled_texts(
    documents: Iterable[Document], splits: dict[str, str]
) -> dict[str, list[LabelledText]]:
    """The examples of every split: docstrings' openings, masked, and none of them twice."""
    seen: set[str] = set()
    found: dict[str, list[LabelledText]] = {name: [] for name in SPLITS}
    for document in documents:
        area = area_of(document.source)
        text = mask_module(" ".join(document.sentences[:MAX_SENTENCES]), document.source)
        if area is None or len(text.split()) < MIN_WORDS or text.lower() in seen:
            continue
        seen.add(text.lower())
        found[splits[document.source]].append(LabelledText(text, area, document.source))
    return found


def without_held_out(documents: Iterable[Document], splits: dict[str, str]) -> list[Document]:
    """What pre-training may read: no dev or test module, and no sentence that stands in one."""
    documents = list(documents)
    held_out = {name for name, split in splits.items() if split != "train"}
    unseen = {s for doc in documents if doc.source in held_out for s in doc.sentences}
    kept = []
    for document in documents:
        sentences = tuple(s for s in document.sentences if s not in unseen)
        if document.source not in held_out and sentences:
            kept.append(replace(document, sentences=sentences))
    return kept


def write_docbins(splits: dict[str, list[LabelledText]], directory: Path) -> None:
    """Write `train.spacy`, `dev.spacy` and `test.spacy`: blank English Docs, one-hot `doc.cats`."""
    import spacy
    from spacy.tokens import DocBin

    nlp = spacy.blank("en")
    for split, examples in splits.items():
        docs = DocBin()
        for example in examples:
            doc = nlp.make_doc(example.text)
            doc.cats = {area: float(area == example.area) for area in AREAS}
            docs.add(doc)
        with replacing(directory / f"{split}.spacy") as temporary:
            docs.to_disk(temporary)
