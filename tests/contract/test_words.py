"""Words that are not used any more: private names for things that have a name in the field, and prose that hides verbs.

Code is read by its tokens, so that a name in a string (a stored value, a wire name, a path) is never taken for one of
ours. Prose is every docstring, comment and string of the code, and every page of the docs. docs/glossary.md has the
words that are used.
"""

from __future__ import annotations

import re
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
THIS = Path(__file__).resolve()

GENERATED = re.compile(r"schemas/messages/(?!contract|generate)|migrations/versions/")
"""Message classes are made from the schemas, whose words are the wire's; a released migration never changes."""
SHOWN_MAX = 40
"""Hits that a failure shows: enough to begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """Where a text stands: a file of the repository and a line, from 1."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text.strip()[:100]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Banned:
    """A word by a regular expression, and what to write instead.

    ``within`` matches the paths in which it is banned: elsewhere it is plain English. ``allowed`` matches what a text
    may have all the same: a stored value, a column's comment in a database, a name on the wire, a user of Unix.
    """

    word: str
    instead: str
    within: str = ""
    allowed: str = r"(?!)"

    def is_in(self, hit: Hit) -> bool:
        if not re.match(self.within, hit.path):
            return False
        return re.search(self.word, re.sub(self.allowed, "", hit.text)) is not None


NAMES = (
    Banned(word=r"^_?Turn$", instead="UnitOfWork; in the proof SimulatedTask"),
    Banned(
        word=r"^_?turns?$",
        instead="unit_of_work, task; of a benchmark interval",
        within="chassis|proof|cli/baraza/bench|tests/(bench|integration|proof|unit/test_bench)",
    ),
    Banned(word=r"^_?Book$", instead="LoadedEffects"),
    Banned(word=r"^_?book$", instead="loaded", within="chassis|proof/proof/(?!providers)"),
    Banned(word=r"^_?(Line|line)$", instead="WaitingMessages, waiting", within="chassis/chassis/(saga|process)"),
    Banned(word=r"^_?Place$|^at_place$", instead="TopicPartition, index, permit, slot, endpoint or position"),
    Banned(word=r"^_?places?$", instead="topic_partition, partition", within="services/saga-tracker"),
    Banned(word=r"^(Unread|UNREAD)$", instead="Unprocessable, UNPROCESSABLE"),
    Banned(word=r"^_?unread$", instead="unprocessable, undecodable", within="chassis|proof|services"),
    Banned(word=r"^_?[Pp]atience$", instead="TransientRetry, transient_retry"),
    Banned(word=r"^_?(Parts|PartMissing|needed_parts)$", instead="Dependencies, DependencyMissing, dependencies"),
    # A loan is paid in parts, as its messages say.
    Banned(word=r"^_?parts$", instead="dependencies", within="chassis/chassis/process|services/(?!members|ledger)"),
    Banned(
        word=r"^_?(Reach|Taken|taken_by)$", instead="WatermarkTracker, ConsumerProgress", within="services/saga-tracker"
    ),
    Banned(word=r"^_?([Dd]esk|[Tt]ill|Goods|Ends|Suffered)$", instead="OrderBatcher, CheckoutClient, SeedData, …"),
    Banned(word=r"^_?(Said|Otherwise|Repetition)$", instead="PublishedReply, OutcomeUnknown, Replay"),
    Banned(word=r"^_?(Asked|asks)$", instead="PendingResult, is_query"),
    Banned(word=r"^_?(ask|explained)$", instead="submit, translate_errors", within="chassis/chassis/(postgres|saga)"),
    Banned(word=r"(^|_)kits?(_|$)|^_?Kit$", instead="chassis, built_in"),
    Banned(word=r"^first_s$", instead="initial_interval_s"),
    Banned(word=r"^is_held$", instead="is_parked"),
    Banned(word=r"^_?held$", instead="parked", within="chassis/chassis/saga"),
    Banned(word=r"^_?(give|gives|gave|given)_up$", instead="exhausted, dead_letter, park"),
    Banned(word=r"(?i)(^|_)forget", instead="commit, delete or discard"),
    Banned(word=r"(?i)(^|_)(worlds?|moves?)(_|$)", instead="state, transition", within="proof|tests/proof"),
    Banned(word=r"(?i)so_manieth", instead="nth"),
)
"""Names in our Python packages and tests."""

PROSE = (
    Banned(word=r"(?i)\bwho(m)?ever\b", instead="the process, the operator, the reader"),
    Banned(
        word=r"(?i)\b(no|some)body\b",
        instead="no process, no operator; a person",
        allowed=r"[`'\"]nobody[`'\"]|(user|as) nobody|units nobody holds|nobody can tell which",
    ),
    Banned(word=r"(?i)\bfor want of\b", instead="because … is missing"),
    Banned(word=r"(?i)\bso-manieth\b", instead="n-th"),
    Banned(word=r"(?i)machine's hour", instead="depending on the hour"),
    Banned(word=r"(?i)\bwhat (it|they|this|that) c[ao]mes? to\b", instead="the result"),
    Banned(word=r"(?i)\b(is|are|was|were|be|been) (told|asked)\b", instead="receives, is queried"),
    Banned(word=r"(?i)\btold\b|\btells\b", instead="reports, returns, publishes, shows"),
    Banned(word=r"(?i)\bsays? whether\b", instead="Return whether"),
    Banned(word=r"(?i)\bthe kit\b|\bkit's\b", instead="the chassis"),
    Banned(word=r"(?i)\ba part is (away|missing)|\bwaiting for a part\b", instead="… is unavailable, by its name"),
    Banned(word=r"(?i)\blets? (them |it )?go\b", instead="discard", allowed=r"lets it go on"),
    Banned(word=r"(?i)\bforg(e|o)t", instead="commit, delete, discard"),
    Banned(
        word=r"(?i)\bg[iae]ve[sn]? (it |them )?up\b|\bgiving (it |them )?up\b",
        instead="exhaust the retries, dead-letter, compensate",
        allowed=r"was given up: |message that was given up",
    ),
    Banned(word=r"(?i)\bmend(s|ed|ing)?\b", instead="fix"),
)
"""Docstrings, comments, strings and docs."""


@cache
def code() -> tuple[Path, ...]:
    """Return every module that we wrote, in packages, tests and docs."""
    folders = [folder for folder in ROOT.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    modules = [module for folder in folders for module in folder.rglob("*.py")]
    return tuple(sorted(each for each in modules if each != THIS and not GENERATED.search(relative(each))))


@cache
def pages() -> tuple[Path, ...]:
    """Return every page and rule that people read."""
    found = [ROOT / "README.md", ROOT / "pyproject.toml", *(ROOT / "docs").rglob("*.md"), *(ROOT / "k8s").rglob("*.md")]
    return tuple(sorted([*found, *(ROOT / "observability").glob("*.yml")]))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def names() -> Mapping[str, Sequence[Hit]]:
    """Return where each name in the code is, with the names of the modules. Most names are there often."""
    modules = [Hit(path=relative(module), line=1, text=module.stem) for module in code()]
    found: dict[str, list[Hit]] = {}
    for hit in (*modules, *_tokens()[tokenize.NAME]):
        found.setdefault(hit.text, []).append(hit)
    return found


@cache
def prose() -> tuple[Hit, ...]:
    """Return every comment and string of the code, line by line, and every line of the pages."""
    found = [*_tokens()[tokenize.COMMENT], *_tokens()[tokenize.STRING]]
    for page in pages():
        found += _lines(page, 1, page.read_text())
    return tuple(found)


@cache
def _tokens() -> Mapping[int, tuple[Hit, ...]]:
    """Return the names, comments and strings of the code, by the kind of their token."""
    found: dict[int, list[Hit]] = {tokenize.NAME: [], tokenize.COMMENT: [], tokenize.STRING: []}
    for module in code():
        with module.open("rb") as source:
            for token in tokenize.tokenize(source.readline):
                if token.type in found:
                    found[token.type] += _lines(module, token.start[0], token.string)
    return {kind: tuple(hits) for kind, hits in found.items()}


def _lines(path: Path, first: int, text: str) -> Iterator[Hit]:
    for number, line in enumerate(text.splitlines(), first):
        yield Hit(path=relative(path), line=number, text=line)


def _fail_on(hits: list[Hit], banned: Banned) -> None:
    if hits:
        folders = dict(Counter(hit.path.partition("/")[0] for hit in hits))
        shown = "\n".join(map(str, hits[:SHOWN_MAX]))
        pytest.fail(
            f"{len(hits)} times /{banned.word}/. Write: {banned.instead}. By folder: {folders}\n{shown}", pytrace=False
        )


def test_a_word_is_caught_where_it_is_banned_and_not_where_it_is_allowed() -> None:
    banned = Banned(word=r"^unread$", instead="unprocessable", within="chassis")
    assert banned.is_in(Hit(path="chassis/chassis/saga/batch.py", line=1, text="unread"))
    assert not banned.is_in(Hit(path="cli/baraza/broker.py", line=1, text="unread"))
    assert not Banned(word=r"unread", instead="", allowed=r'"unread"').is_in(Hit(path="", line=1, text='"unread"'))


@pytest.mark.parametrize("banned", NAMES, ids=lambda banned: banned.word)
def test_no_name_is_a_private_word(banned: Banned) -> None:
    named = [hits for name, hits in names().items() if re.search(banned.word, name)]
    _fail_on([hit for hits in named for hit in hits if banned.is_in(hit)], banned)


@pytest.mark.parametrize("banned", PROSE, ids=lambda banned: banned.word)
def test_no_prose_has_a_word_that_is_not_used_any_more(banned: Banned) -> None:
    _fail_on([hit for hit in prose() if banned.is_in(hit)], banned)
