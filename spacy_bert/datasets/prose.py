"""Prose out of documentation: docstrings and plain-text manuals to clean sentences.

The text is written by hand in many styles (plain, reStructuredText, Google, man page), so the rules
look at the shape of lines, not at one mark-up: code, tables and drawings are dropped, list items
become paragraphs of their own, and inline mark-up is removed.
"""

import ast
import inspect
import re
import warnings

MIN_WORDS = 3
MAX_WORDS = 100
_MIN_LETTERS = 0.75  # share of letters and spaces among the characters of a sentence
_MAX_TERM = 32  # characters; a line of wrapped prose is longer

_DOCTEST = re.compile(r"\s*(>>>|\.\.\. |\$ |%\w)")
_RULE = re.compile(r"\s*([=\-~^*#_+.])\1{2,}\s*$")
_UNDERLINED = re.compile(r"^.+\n[=\-*~^#]{3,}[ ]*$", re.MULTILINE)
_GRAMMAR = re.compile(r"::=|^\s*[\w.]+\s*:=")
_TABLE = re.compile(r"^\s*[+|]|\S(?<![.!?:;,])(\t| {3,})\S|={3,} +={3,}")
_SIGNATURE = re.compile(r"\s*(class |def |async )?[\w.]+\([^()]*(\([^()]*\)[^()]*)*\)\s*(->.*|:)?$")
_DIRECTIVE = re.compile(r"\s*(\.\. |-\[ |#|:\w+:\s*$)")
_STATEMENT = re.compile(
    r"\s*((def|class|elif) .*:$|if .*[(=].*:$|for \w+ in .*:$|return .*[()]|@\w|[\w.]+ = "
    r"|import \w+$|from \w+ import )"
)
_BULLET = re.compile(r"\s*([*+\-•o]|\(?\d{1,2}[.)]|\(?[a-z]\)|\[\d+\])\s+(?=\S)")
_ITEM = re.compile(r"\s*[*'\"]{0,2}[\w.]+[*'\"]{0,2}(\(.*?\))?(\s+--?\s|:\s)")
_HEADING = re.compile(r"\s*[A-Z][\w ]{0,30}:\s*$")

_ASSIGNMENT = re.compile(r"\w=[\w'\"\[<(]")  # two of them: the rest of a signature

_HYPHEN = re.compile(r"(?<=[^\W\d])- (?=[a-z])(?!and |or )")  # a word broken by a line's end
_FIELD = re.compile(r"^[:@](param|type|arg|returns?|rtype|raises?|keyword)\b[^:]*:\s*")
_VERSION = re.compile(r"^(Changed|New|Deprecated|Added)(?: in version|:) [^:]{0,60}[:.]\s*(?=\S)")
_ROLE = re.compile(r":\w+(?::\w+)?:`[~!]?([^`<]+?)(?:\s*<[^`]*>)?`")
_BACKTICKS = re.compile(r"`{1,2}([^`]+?)(?:`{1,2}_?|'{1,2}(?!\w))")
_EMPHASIS = re.compile(r"(?<![\w*])(\*{1,2})(?=[^\s*])([^*]+?)(?<=[^\s*])\1(?![\w*])")

_ABBREVIATIONS = re.compile(
    r"(e\.?g|i\.?e|etc|cf|vs|viz|resp|approx|figs?|sec|vol|pp?|al|dr|mrs?|ms|st|inc|jr)$"
)
# A sentence ends at . ! or ?, after its closing quotes or brackets, before white space.
_END = re.compile(r"([.!?]+)[\"')\]”’]*\s+(?=\S)")
_WORD = re.compile(r"[^\W\d_]{2,}|\b[aAI]\b")


def clean_sentences(text: str) -> list[str]:
    """The sentences of a docstring or a page of documentation, in order, without repeats.

    Args:
        text: The raw text, indented as it stands in its source.

    Returns:
        One string a sentence, without line breaks; empty if there is no prose.
    """
    found: dict[str, None] = {}
    for paragraph in paragraphs(text):
        for sentence in split_sentences(paragraph):
            if is_sentence(sentence):
                found[sentence] = None
    return list(found)


def sections(text: str) -> list[str]:
    """The parts of a page between its underlined headings, without the headings."""
    return [section for section in _UNDERLINED.split(text) if section.strip()]


def paragraphs(text: str, *, markup: bool = False) -> list[str]:
    """The paragraphs and list items of prose, unwrapped.

    Args:
        text: The raw text, indented as it stands in its source.
        markup: Leave inline mark-up (roles, backticks, emphasis) as it stands.
    """
    found = []
    for block in re.split(r"\n\s*\n", inspect.cleandoc(text).expandtabs()):
        lines = block.split("\n")
        if not _is_code(lines):
            found += [_unwrap(unit, markup=markup) for unit in _units(lines)]
    return [paragraph for paragraph in found if paragraph]


def split_sentences(paragraph: str) -> list[str]:
    """Split a paragraph without line breaks into sentences.

    A full stop ends no sentence after a common abbreviation, an initial or inside a name
    (``os.path``). What follows may begin with a small letter, as names of arguments do.
    """
    found, start = [], 0
    for match in _END.finditer(paragraph):
        before = paragraph[start : match.start()].rsplit(None, 1)
        word = before[-1].lower().lstrip("([\"'") if before else ""
        stop = match.group(1) == "."
        if stop and (_ABBREVIATIONS.match(word) or (len(word) == 1 and word.isalpha())):
            continue
        if match.group(1) == "..." and paragraph[match.end()].islower():
            continue
        found.append(paragraph[start : match.end()].strip())
        start = match.end()
    found.append(paragraph[start:].strip())
    return [sentence for sentence in found if sentence]


def _is_code(lines: list[str]) -> bool:
    """Whether a block is source code: English hardly ever parses as Python."""
    source = inspect.cleandoc("\n".join(lines))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes inside of examples
            ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    return True


def _units(lines: list[str]) -> list[list[str]]:
    """Group the lines of a block into paragraphs and list items, dropping what is not prose."""
    units: list[list[str]] = [[]]
    for index, line in enumerate(lines):
        if _DOCTEST.match(line):
            break  # the rest of the block is the example's output
        following = lines[index + 1] if index + 1 < len(lines) else ""
        starts = not units[-1]
        if _is_drawing(line) or _RULE.match(following) or (starts and _SIGNATURE.match(line)):
            units.append([])
            continue
        bullet = _BULLET.match(line)
        if bullet or _ITEM.match(line) or (index and _is_term(lines[index - 1], line)):
            units.append([])
        units[-1].append(line[bullet.end() if bullet else 0 :].strip())
    return [unit for unit in units if unit]


def _is_drawing(line: str) -> bool:
    """Whether a line belongs to a rule, table, grammar, directive or statement, or is a heading."""
    shapes = (_RULE, _DIRECTIVE, _HEADING, _STATEMENT)
    return any(shape.match(line) for shape in shapes) or bool(
        _GRAMMAR.search(line) or _TABLE.search(line)
    )


def _is_term(line: str, following: str) -> bool:
    """Whether a line is a term and the next one begins its definition, indented below it."""
    indent, deeper = (len(text) - len(text.lstrip()) for text in (line, following))
    return deeper > indent and len(line.strip()) <= _MAX_TERM and not _BULLET.match(line)


def _unwrap(lines: list[str], *, markup: bool) -> str:
    """One line without fields and version notes, and without inline mark-up unless it is wanted."""
    text = _HYPHEN.sub("-", " ".join(lines))
    text = _FIELD.sub("", text)
    text = _VERSION.sub("", text)
    if not markup:
        text = _ROLE.sub(r"\1", text)
        text = _BACKTICKS.sub(r"\1", text)
        text = _EMPHASIS.sub(r"\2", text)
    text = text.replace("“", '"').replace("”", '"').replace("’", "'").replace("‘", "'")
    text = re.sub(r"\s*::?$", ":", text)
    return re.sub(r"\s+", " ", text).strip()


def is_sentence(text: str) -> bool:
    """Whether a text without mark-up is made of words, and of not too few or too many."""
    words = len(_WORD.findall(text))
    letters = sum(character.isalpha() or character.isspace() for character in text)
    if len(_ASSIGNMENT.findall(text)) > 1:
        return False
    return MIN_WORDS <= words <= MAX_WORDS and letters >= _MIN_LETTERS * len(text)
