"""Faults of a provider of mobile money: of an answer, of an outcome, of a callback, or of a statement.

A request brings faults in its ``X-Fault`` header; ``POST /admin/faults`` adds those that match, by rate or by schedule.
Which request meets which fault depends only on the seed, the operation, the kind and the request's reference.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simulators.mobile.records import MobileRecords
from simulators.problems import Problem

DELAY_S_MAX = 400 * 86_400.0
FAULTS_MAX = 100
"""Every request is matched against every fault; more than this is a mistake in the script that adds them."""
COPIES_MAX = 100
EVERY = "*"
"""The operation of a fault that any operation meets."""


class Kind(StrEnum):
    """The kinds of faults. Where nothing else is said, the effect of the request happens."""

    # Of the answer.
    SLOW = "slow"  # the answer after the delay
    HANG = "hang"  # no answer; the connection breaks after the delay
    ANSWER_LOST = "answer_lost"  # the connection breaks at once
    ACK_LAST = "ack_last"  # the answer after the callback
    HTML = "html"  # a page of a proxy in place of the answer
    EMPTY = "empty"  # an empty body
    EMPTY_CODE = "empty_code"  # a 5xx whose code is empty
    ERROR = "error"  # 500.002.1001, no effect
    ERROR_AFTER = "error_after"  # 500.002.1001, and the effect happens all the same
    RATE_LIMITED = "rate_limited"  # spike arrest, no effect
    QUOTA = "quota"  # quota exceeded, no effect
    TOKEN_INVALID = "token_invalid"  # no effect
    LOCKED = "locked"  # the subscriber is locked by another transaction, no effect
    REFUSED = "refused"  # a field is invalid, no effect
    REFUSED_KEPT = "refused_kept"  # the same, and the caller's id counts as seen
    PROCESSING = "processing"  # a prompt's query: it is being processed
    NOT_FOUND = "not_found"  # a query: no such transaction
    FLAT = "flat"  # pull: rows that are not in a nested list
    UTC_TIMES = "utc_times"  # pull: times that are UTC
    HASHED = "hashed"  # pull: hashes of phones
    # Of the outcome.
    RESULT = "result"  # the outcome has the code; with paid_after_s it is paid later all the same
    NUMBERS_ONLY = "numbers_only"  # a prompt whose phone is text reaches no phone
    QUEUE_TIMEOUT = "queue_timeout"  # the timeout's callback at once, the outcome after the delay
    LATE_RESULT = "late_result"  # the request stays in a queue for the delay
    # Of a callback.
    LOST = "lost"  # it is not sent
    LATE = "late"  # it is sent after the delay
    COPIES = "copies"  # it is sent ``count`` times
    CODE_TEXT = "code_text"  # its code is text
    CODE_NUMBER = "code_number"  # its code is a number
    NO_METADATA = "no_metadata"
    AMOUNT_TEXT = "amount_text"  # "5.00"
    AMOUNT_DECIMAL = "amount_decimal"  # 5.00
    REORDERED = "reordered"  # its items in another order
    SINGLE_OBJECT = "single_object"  # a list of one item is that item
    MASKED = "masked"  # its phone is masked
    NO_PHONE = "no_phone"
    GARBLED = "garbled"  # its body is ``code``: empty, array, html, or other (a body without the parts of a callback)
    REASON_OBJECT = "reason_object"  # MoMo: the reason is an object
    # Of a statement.
    GAP = "gap"  # a row is missing
    DOUBLE = "double"  # every row is there twice
    OLDER = "older"  # the older columns
    SHUFFLED = "shuffled"  # the columns in another order
    NO_PREAMBLE = "no_preamble"
    PLAIN = "plain"  # amounts without separators, withdrawals without a minus
    OLDEST_FIRST = "oldest_first"
    ALL_STATES = "all_states"  # what failed is there too


ANSWER = frozenset(list(Kind)[: list(Kind).index(Kind.RESULT)])
OUTCOME = frozenset({Kind.RESULT, Kind.NUMBERS_ONLY, Kind.QUEUE_TIMEOUT, Kind.LATE_RESULT})
STATEMENT = frozenset(list(Kind)[list(Kind).index(Kind.GAP) :])
CALLBACK = frozenset(Kind) - ANSWER - OUTCOME - STATEMENT


class Fault(BaseModel):
    """One fault, as ``POST /admin/faults`` and ``X-Fault`` have it.

    ``match`` restricts it to one reference, phone or id; ``rate`` to a seeded share of the references; ``times`` limits
    how often one reference meets it. It is active from ``from_at`` until ``until_at``, by the provider's clock;
    ``starts_in_s`` and ``lasts_s`` become these. With ``effect: false`` the effect does not happen.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    operation: str = EVERY
    kind: Kind
    rate: Annotated[float, Field(ge=0, le=1)] = 1.0
    match: str | None = None
    times: Annotated[int, Field(ge=1)] | None = None
    delay_s: Annotated[float, Field(ge=0, le=DELAY_S_MAX)] = 1.0
    effect: bool = True
    status: Annotated[int, Field(ge=200, le=599)] | None = None
    code: str | None = None
    count: Annotated[int, Field(ge=1, le=COPIES_MAX)] = 2
    paid_after_s: Annotated[float, Field(ge=0, le=DELAY_S_MAX)] | None = None
    starts_in_s: Annotated[float, Field(ge=0, le=DELAY_S_MAX)] | None = None
    lasts_s: Annotated[float, Field(ge=0, le=DELAY_S_MAX)] | None = None
    from_at: float | None = None
    until_at: float | None = None

    def scheduled(self, now: float) -> Fault:
        """Return the fault with its times on the provider's clock."""
        begins = self.from_at if self.starts_in_s is None else now + self.starts_in_s
        ends = self.until_at if self.lasts_s is None else (begins or now) + self.lasts_s
        changed = {"from_at": begins, "until_at": ends, "starts_in_s": None, "lasts_s": None}
        return self.model_copy(update=changed)

    def is_active(self, now: float) -> bool:
        """Return whether it is active at a time."""
        return (self.from_at is None or now >= self.from_at) and (self.until_at is None or now < self.until_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a fault can match. ``reference`` is unique to the request; the others are phones, receipts and ids."""

    operation: str
    reference: str
    others: tuple[str, ...] = ()


def met(
    records: MobileRecords, subject: Subject, kinds: Collection[Kind], *, now: float, seed: int
) -> tuple[Fault, ...]:
    """Return the faults of these kinds that a request meets, the oldest first, and count them.

    It runs inside a transaction.
    """
    found = []
    for fault_id, rule in records.faults():
        fault = _parsed(rule)
        if fault.kind not in kinds or not _meets(fault, subject, now, seed):
            continue
        if fault.times is not None:
            if records.fault_hits(fault_id, subject.reference) >= fault.times:
                continue
            records.hit_fault(fault_id, subject.reference)
        found.append(fault)
    return tuple(found)


def _meets(fault: Fault, subject: Subject, now: float, seed: int) -> bool:
    if fault.operation not in (EVERY, subject.operation) or not fault.is_active(now):
        return False
    if fault.match is not None and fault.match not in (subject.reference, *subject.others):
        return False
    return fault.rate >= 1.0 or draw(seed, fault, subject.reference) < fault.rate


def draw(seed: int, fault: Fault, reference: str) -> float:
    """Return a number in [0, 1) that depends only on the arguments."""
    text = f"{seed}\x1f{fault.operation}\x1f{fault.kind}\x1f{fault.code}\x1f{reference}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) / 2**64


def first(faults: Iterable[Fault], *kinds: Kind) -> Fault | None:
    """Return the first fault of some kinds."""
    return next((each for each in faults if each.kind in kinds), None)


def of_header(operation: str, text: str) -> tuple[Fault, ...]:
    """Parse an ``X-Fault`` header, such as ``answer_lost, result; code=1``. Raises Problem."""
    return tuple(_of_text(operation, each) for each in text.split(",") if each.strip())


def _of_text(operation: str, text: str) -> Fault:
    kind, *parameters = (part.strip() for part in text.split(";"))
    values = {"operation": operation, "kind": kind}
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        values[name.strip()] = value.strip()
    try:
        return Fault.model_validate_strings(values)
    except ValidationError as error:
        detail = f"X-Fault {text!r} is not a fault. Write it like 'late; delay_s=2'; kinds: {', '.join(Kind)}."
        raise Problem(400, "invalid_fault", detail) from error


def stored(faults: Iterable[Fault]) -> list[str]:
    """Return faults as a record keeps them."""
    return [each.model_dump_json(exclude_defaults=True) for each in faults]


def restored(texts: object) -> tuple[Fault, ...]:
    """Return the faults that a record kept."""
    return tuple(_parsed(str(each)) for each in texts) if isinstance(texts, list) else ()


_PARSED: dict[str, Fault] = {}


def _parsed(rule: str) -> Fault:
    if rule not in _PARSED:
        if len(_PARSED) > 10 * FAULTS_MAX:
            _PARSED.clear()
        _PARSED[rule] = Fault.model_validate_json(rule)
    return _PARSED[rule]
