"""Rules as data: a document of limits and rules is read, checked and evaluated. Pure.

Rules are expressions of the ZEN language, whose numbers are exact decimals. An expression may name facts, compare and
reckon with them. It calls no function and has no range, so its cost grows with its length alone, and nothing is looked
up while it is evaluated.
"""

from __future__ import annotations

import enum
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias

import zen
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

SCORE_MAX: Final = 1_000
RULES_MAX: Final = 200
LIMITS_MAX: Final = 10_000
WHEN_LENGTH_MAX: Final = 500
DOCUMENT_LENGTH_MAX: Final = 1_000_000
AMOUNT_MAX: Final = 2**63 - 1

Fact: TypeAlias = int | str | bool
Facts: TypeAlias = Mapping[str, Fact]

EXAMPLE: Final[Facts] = {
    "amount_minor": 1,
    "currency": "USD",
    "capture": "NOW",
    "is_live": True,
    "merchant_id": "merchant",
    "payment_method": "pm_card",
    "gateway_account": "account",
    "hour_utc": 0,
    "payer_payments_10m": 0,
    "payer_payments_1h": 0,
    "payer_payments_24h": 0,
    "payer_amount_10m": 0,
    "payer_amount_1h": 0,
    "payer_amount_24h": 0,
    "merchant_payments_10m": 0,
    "merchant_payments_1h": 0,
    "merchant_payments_24h": 0,
    "merchant_amount_10m": 0,
    "merchant_amount_1h": 0,
    "merchant_amount_24h": 0,
}
"""Every fact that a rule may name, with a value of its type."""
WORDS: Final = frozenset({"and", "or", "not", "in", "true", "false"})
TOKEN: Final = re.compile(
    r"""\s*(?:(?P<text>"[^"\\]*"|'[^'\\]*')|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<number>[0-9]+)"""
    r"""|(?P<other>==|!=|<=|>=|<|>|\+|-|\*|/|%|\(|\)|\[|\]|,))"""
)
"""What an expression may consist of: no dot, so no range and no fraction, and no backtick, so no template."""


class OnUndecided(enum.StrEnum):
    """What happens to a payment that the rules cannot decide."""

    ALLOW = "ALLOW"
    BLOCK = "BLOCK"


class InvalidRules(ValueError):
    """A document of rules is refused. ``errors`` are the fields, as JSON pointers, each with what is wrong."""

    def __init__(self, errors: Sequence[tuple[str, str]]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(f"{field}: {what}" for field, what in self.errors))


class CannotEvaluate(ArithmeticError):
    """A rule had no answer for a payment. The text says why, without the facts."""


def _expression(text: str) -> str:
    """Return an expression that may be evaluated. Raises ValueError with what is wrong."""
    at = 0
    while at < len(text.rstrip()):
        found = TOKEN.match(text, at)
        if found is None:
            raise ValueError(f"Character {at + 1} ({text[at:].strip()[:1]}) has no meaning in a rule")
        name = found["name"]
        if name is not None and name not in WORDS and name not in EXAMPLE:
            raise ValueError(f"No fact {name}; there are: {', '.join(EXAMPLE)}")
        if name is not None and name not in WORDS and text[found.end() :].lstrip().startswith(("(", "[")):
            raise ValueError(f"{name} is a fact; write an operator behind it")
        at = found.end()
    try:
        _evaluate(zen.compile_expression(text), EXAMPLE)
    except (CannotEvaluate, RuntimeError) as error:
        raise ValueError(f"No expression with a result of true or false: {_words(error)}") from error
    return text


def _words(error: BaseException) -> str:
    """Return the reason in an error of the engine, which puts a trace of its own behind it."""
    return str(error).splitlines()[0][:200]


def _evaluate(expression: Any, facts: Facts) -> bool:
    try:
        found = expression.evaluate(dict(facts))
    except RuntimeError as error:
        raise CannotEvaluate(_words(error)) from error
    if not isinstance(found, bool):
        raise CannotEvaluate("its result is neither true nor false")
    return found


class Limit(BaseModel):
    """The largest amount of one payment in a currency, of one merchant or of all that have no limit of their own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    payment_minor_max: Annotated[int, Field(strict=True, ge=0, le=AMOUNT_MAX)]
    merchant_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None


class Rule(BaseModel):
    """Adds to the score of a payment ``when`` its expression is true, and blocks it where ``blocks``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]
    when: Annotated[str, Field(min_length=1, max_length=WHEN_LENGTH_MAX), AfterValidator(_expression)]
    score: Annotated[int, Field(strict=True, ge=0, le=SCORE_MAX)] = 0
    blocks: bool = False


class Document(BaseModel):
    """A version of the rules as it is written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:-]+$")]
    on_undecided: OnUndecided
    block_score: Annotated[int, Field(strict=True, ge=1, le=SCORE_MAX)]
    limits: Annotated[tuple[Limit, ...], Field(max_length=LIMITS_MAX)] = ()
    rules: Annotated[tuple[Rule, ...], Field(max_length=RULES_MAX)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What the rules found: the names of those that matched, of those without an answer, and the score."""

    matched: tuple[str, ...]
    undecided: tuple[str, ...]
    blocking: str | None
    score: int


class RuleSet:
    """One version of the rules, ready to be evaluated."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._limits = {(limit.currency, limit.merchant_id): limit.payment_minor_max for limit in document.limits}
        self._compiled = [(rule, zen.compile_expression(rule.when)) for rule in document.rules]

    @property
    def version(self) -> str:
        """The version, which is in every event that the rules decided."""
        return self.document.version

    def limit(self, currency: str, merchant_id: str) -> int | None:
        """Return the largest amount of a payment in this currency: the merchant's own, that of all, or None."""
        own = self._limits.get((currency, merchant_id))
        return self._limits.get((currency, None)) if own is None else own

    def evaluate(self, facts: Facts) -> Evaluated:
        """Evaluate all rules, so that every signal is known, whichever of them blocks."""
        matched: list[str] = []
        undecided: list[str] = []
        score, blocking = 0, None
        for rule, expression in self._compiled:
            try:
                found = _evaluate(expression, facts)
            except CannotEvaluate:
                undecided.append(rule.name)
                continue
            if found:
                matched.append(rule.name)
                score += rule.score
                blocking = blocking or (rule.name if rule.blocks else None)
        return Evaluated(
            matched=tuple(matched), undecided=tuple(undecided), blocking=blocking, score=min(score, SCORE_MAX)
        )


def read(text: str) -> RuleSet:
    """Return the rules of a TOML document. Raises InvalidRules."""
    if len(text) > DOCUMENT_LENGTH_MAX:
        raise InvalidRules([("#", f"{len(text)} characters; at most {DOCUMENT_LENGTH_MAX}")])
    try:
        document = Document.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InvalidRules([("#", f"No TOML: {error}")]) from error
    except ValidationError as error:
        raise InvalidRules(
            [("#/" + "/".join(map(str, each["loc"])), each["msg"]) for each in error.errors()]
        ) from error
    _check_unique([rule.name for rule in document.rules], "rules", "name")
    _check_unique(
        [f"{limit.currency} {limit.merchant_id or 'of all'}" for limit in document.limits], "limits", "currency"
    )
    return RuleSet(document)


def _check_unique(keys: Sequence[str], field: str, member: str) -> None:
    seen: set[str] = set()
    for index, key in enumerate(keys):
        if key in seen:
            raise InvalidRules([(f"#/{field}/{index}/{member}", f"{key} is here twice")])
        seen.add(key)
