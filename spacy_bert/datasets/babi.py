"""bAbI (Weston et al. 2015): questions about short stories, with the facts that answer them.

A story is a run of numbered lines. A line is a fact, or a question with its answer and the numbers
of its supporting facts, between tabs; a question asks about the facts before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from spacy.language import Language
from spacy.tokens import Doc

from spacy_bert.datasets.lines import numbered_lines
from spacy_bert.datasets.questions import Characters, find_word, inside, make_question
from spacy_bert.datasets.writing import BadRows, write_docs

# As answers they say something of the story; as words of it ("is no longer here") they do not.
NO_WORDS = ("yes", "no", "maybe")


@dataclass(kw_only=True)
class Counts:
    """What was written.

    Attributes:
        stories: Stories with a question.
        questions: Those that were written.
        unsupported: How many of their answers stand in the story, but in no supporting fact.
        other: Questions left out, because their answer is no word of the story.
    """

    stories: int = 0
    questions: int = 0
    unsupported: int = 0
    other: int = 0


@dataclass
class _Story:
    """What has been told: text, where each fact stands in it, by number, and if it was used."""

    text: str = ""
    asked: bool = False
    facts: dict[int, Characters] = field(default_factory=dict)

    def add(self, number: int, fact: str) -> None:
        begin = len(self.text) + bool(self.text)
        self.text = f"{self.text} {fact}".lstrip()
        self.facts[number] = (begin, len(self.text))


def write_babi(
    source: Path, output: Path, nlp: Language, bad: BadRows, *, skip_other: bool = False
) -> Counts:
    """Turn a file of a bAbI task into training data for `bert_span_qa`.

    A Doc is a question and the story so far, and the answer a word of the story: the last that
    stands in the latest supporting fact that holds it, or else in the story. All supporting facts
    are in `doc.spans["supporting_facts"]`.

    Args:
        source: The file, also `.gz`.
        output: The `.spacy` file.
        nlp: The pipeline whose tokenizer is used.
        bad: What becomes of malformed lines.
        skip_other: Whether to leave out questions whose answer is no word of the story (yes, no, a
            number, a list), and to count them; otherwise they count as malformed.

    Raises:
        ValueError: If the file cannot be read, or a line is malformed and `bad` does not skip it;
            names the line.
    """
    counts = Counts()
    write_docs(output, _read(source, nlp, bad, skip_other, counts), only_words=True)
    return counts


def _read(
    source: Path, nlp: Language, bad: BadRows, skip_other: bool, counts: Counts
) -> Iterator[Doc]:
    story = _Story()
    for place, number, text in _numbered(source, bad):
        if number == 1:
            story = _Story()
        if "\t" not in text:
            story.add(number, " ".join(text.split()))
            continue
        try:
            question, answer, facts = _question(text, story)
            found = _find_answer(answer, story, facts or [])
            if found is None:
                if not skip_other:
                    raise ValueError(
                        f"the answer {answer!r} is no word of the story: --skip-other-answers "
                        "leaves out such questions"
                    )
                counts.other += 1
                continue
            doc = make_question(nlp, question, story.text, answers=[found], facts=facts)
        except ValueError as error:
            bad.add(source, place, str(error))
            continue
        counts.stories += not story.asked
        story.asked = True
        counts.questions += 1
        counts.unsupported += facts is not None and not inside([found], facts)
        yield doc


def _numbered(source: Path, bad: BadRows) -> Iterator[tuple[int, int, str]]:
    """The lines of a file: where each stands, its number in its story, and its text."""
    last = 0
    for place, line in numbered_lines(source):
        if not line.strip():
            continue
        number, _, text = line.lstrip(" ").partition(" ")
        if not number.isdecimal() or not text.strip():
            bad.add(source, place, "expected a number, a space and a sentence")
            last += 1
        elif int(number) not in (1, last + 1):
            expected = f"{last + 1}, or 1 where a story begins"
            bad.add(source, place, f"the line is numbered {number}: expected {expected}")
            last += 1
        else:
            last = int(number)
            yield place, last, text


def _question(text: str, story: _Story) -> tuple[str, str, list[Characters] | None]:
    """A question, its answer and the places of its supporting facts; None if none are named."""
    question, answer, *numbers = (cell.strip() for cell in text.split("\t"))
    if not question or not answer or len(numbers) > 1:
        raise ValueError("expected a question, a tab, its answer, a tab and numbers of facts")
    if not numbers or not numbers[0]:
        return question, answer, None
    supporting = []
    for number in numbers[0].split():
        if not number.isdecimal() or int(number) not in story.facts:
            raise ValueError(f"the supporting fact {number} is no earlier fact of the story")
        supporting.append(story.facts[int(number)])
    return question, answer, sorted(supporting)


def _find_answer(answer: str, story: _Story, facts: Iterable[Characters]) -> Characters | None:
    found = [] if answer.lower() in NO_WORDS else find_word(story.text, answer)
    for fact in sorted(facts, reverse=True):
        within = inside(found, [fact])
        if within:
            return within[-1]
    return found[-1] if found else None
