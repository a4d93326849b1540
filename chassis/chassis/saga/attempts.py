"""An awaited step's attempts, how it is sent, and the evidence of its outcome. Pure.

The key of an attempt is derived and never drawn: a restored service sends the same attempt under the same key.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta


class AttemptState(enum.StrEnum):
    """What is proven of one attempt. FAILED stays FAILED: a success that comes later stands beside it as a claim."""

    OPEN = "OPEN"
    FAILED = "FAILED"
    SUCCEEDED = "SUCCEEDED"
    VOIDED = "VOIDED"


class Cancel(enum.StrEnum):
    """What became of a cancel of an attempt at its provider. Once it is out, a success alone settles nothing."""

    NONE = "NONE"
    OUT = "OUT"
    REFUSED = "REFUSED"


class Outcome(enum.StrEnum):
    """What a piece of evidence proves of one attempt."""

    SUCCEEDED = "SUCCEEDED"
    REFUSED = "REFUSED"
    """It failed for good: the same request would fail again."""
    FAILED = "FAILED"
    """It failed, and another attempt may succeed: our fault (no float, wrong credentials)."""
    ABSENT = "ABSENT"
    """It never arrived. Only :func:`on_missing` and :func:`on_not_found` find that out."""
    VOIDED = "VOIDED"
    CANCEL_REFUSED = "CANCEL_REFUSED"
    """The provider refused the cancel, so the attempt may still succeed. An attempt that is voided is VOIDED."""
    MISMATCHED = "MISMATCHED"
    """It did something else than was requested (another amount): it settles nothing, and a person decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt. Its key is derived from saga, step and ``number``, and is the same for every send.

    ``first_sent_at`` and ``last_sent_at`` bound when a request may have been sent; None: it cannot be known.
    ``was_not_found`` means that a query after the last send found nothing, which proves nothing. ``detail`` is that of
    the evidence that proved its success; None: unknown.
    """

    number: int
    first_sent_at: datetime | None
    last_sent_at: datetime | None
    sends: int = 1
    state: AttemptState = AttemptState.OPEN
    cancel: Cancel = Cancel.NONE
    was_not_found: bool = False
    is_contradicted: bool = False
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedPolicy:
    """How an awaited step is sent. ``grace`` is how late a request may arrive after its call is over.

    ``no_return``: nothing undoes it at the provider once it succeeded. ``can_cancel``: an attempt can be cancelled
    there before that, as a parcel can be called off until it is handed over.
    ``not_found_is_proof``: a query that finds nothing, once the call is over, proves that it will never arrive.
    ``sends_within``: so long after its first send an attempt may be sent again; later its provider may have deleted the
    key, and would execute it anew. None: a key is never deleted.
    ``void_is_final``: what is voided there never succeeds any more. A success that is reported later came before the
    void. A cancel voids also what had succeeded, so it contradicts nothing. Nor does a reported void of what is done in
    a saga that is fenced: its undo is such a void.
    ``settles_by_sending``: where a cancel is refused and no query finds the attempt, a closing step sends it once more
    under its key, of which nothing else can be learned. Its answer is that to the request before, or it is executed
    now, and then undone as any step of a saga that is fenced.
    """

    no_return: bool
    can_cancel: bool = False
    attempts_max: int = 1
    sends_max: int = 3
    grace: timedelta = timedelta(0)
    not_found_is_proof: bool = False
    sends_within: timedelta | None = None
    void_is_final: bool = False
    settles_by_sending: bool = False

    def __post_init__(self) -> None:
        if self.attempts_max < 1 or self.sends_max < 1:
            raise ValueError(f"{self.attempts_max} attempts of {self.sends_max} sends; each is at least 1.")
        if self.settles_by_sending and (self.no_return or not self.can_cancel):
            raise ValueError("Only a step that can be cancelled and undone is sent again while its saga is fenced.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The outcome of one attempt, whichever door it came through. ``detail`` is what else it says; None: unknown."""

    attempt: int
    outcome: Outcome
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A provider's statement without a gap between two times, and when it was read."""

    covers_from: datetime
    covers_until: datetime
    read_at: datetime


def attempt_key(saga_id: str, step: str, number: int) -> str:
    """Return the key under which an attempt is sent: derived, so that a restored service sends it again.

    The key of the first attempt is that of :func:`chassis.saga.steps.idempotency_key`.
    """
    return f"{saga_id}:{step}" if number == 1 else f"{saga_id}:{step}:{number}"


def proves_absent(attempt: Attempt, policy: AwaitedPolicy, statement: Statement) -> bool:
    """Return whether a statement that does not show the attempt proves that it never arrived.

    It must cover the time from the first send to the last one with its grace, and be read after that.
    """
    if attempt.first_sent_at is None or attempt.last_sent_at is None:
        return False
    until = attempt.last_sent_at + policy.grace
    return (
        statement.covers_from <= attempt.first_sent_at
        and statement.covers_until >= until
        and statement.read_at >= until
    )
