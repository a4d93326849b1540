"""The provider of an awaited step in the model: requests under way, its records, cancels, and its statements."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TypeAlias

from chassis.saga.attempts import Outcome, Statement
from chassis.saga.awaited import AwaitedEffect

AT = datetime(2026, 1, 1, tzinfo=UTC)
IDS = 2
"""Keys that a provider may see: two attempts, or for a control that draws them, one of two."""


class Record(enum.Enum):
    """What a provider did for one key."""

    ACCEPTED = "accepted"
    SUCCEEDED = "paid"
    REFUSED = "refused for good"
    FAILED = "failed"
    VOIDED = "voided"
    UNDONE = "undone"
    """A success that belonged to no step was undone by its service."""


OUTCOMES = {
    Record.SUCCEEDED: Outcome.SUCCEEDED,
    Record.REFUSED: Outcome.REFUSED,
    Record.FAILED: Outcome.FAILED,
    Record.VOIDED: Outcome.VOIDED,
}
"""What a callback or a query proves by a record."""


class CancelState(enum.Enum):
    """What became of the cancel of a key."""

    UNDER_WAY = "under way"
    VOIDED = "voided"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Provider:
    """A service's awaited effect and its provider.

    ``unpublished``: StepAwaited is in the outbox. ``unsent``: a call is planned and not made. ``sends`` is the clock:
    each send has a time of its own. ``statements`` has the clock at which a statement without the key was read.
    """

    awaited: AwaitedEffect | None = None
    unpublished: bool = False
    unsent: bool = False
    sends: int = 0
    requests: tuple[int, ...] = (0,) * IDS
    records: tuple[Record | None, ...] = (None,) * IDS
    cancels: tuple[CancelState | None, ...] = (None,) * IDS
    statements: tuple[int, ...] = (0,) * IDS

    @property
    def now(self) -> datetime:
        """The time of the next send."""
        return AT + timedelta(seconds=self.sends + 1)

    def statement(self, key: int) -> Statement:
        """Return the latest statement that was read and does not show the key."""
        until = AT + timedelta(seconds=self.statements[key])
        return Statement(covers_from=AT, covers_until=until, read_at=until)

    def count(self, record: Record) -> int:
        """Return for how many keys the provider has this record."""
        return sum(each is record for each in self.records)

    def recorded(self, key: int, record: Record) -> Provider:
        """Return the provider with this record of the key."""
        return replace(self, records=_at(self.records, key, record))

    def cancelling(self, key: int) -> Provider:
        """Return the provider with a cancel of the key under way; one that went out before stays as it is."""
        if self.cancels[key] is not None:
            return self
        return replace(self, cancels=_at(self.cancels, key, CancelState.UNDER_WAY))


ProviderTransition: TypeAlias = tuple[str, Provider]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderBounds:
    """What the provider may do. ``contradicts``: it may pay, once, what it reported as failed."""

    can_fail: bool = True
    can_fail_by_our_fault: bool = False
    can_lose: bool = True
    has_statement: bool = True
    contradicts: bool = False


@cache
def transitions(provider: Provider, bounds: ProviderBounds) -> tuple[ProviderTransition, ...]:
    """Return what happens at the provider and on the way to it."""
    return tuple(_transitions(provider, bounds))


def _transitions(provider: Provider, bounds: ProviderBounds) -> Iterator[ProviderTransition]:
    for key in range(IDS):
        yield from _request(provider, bounds, key)
        record = provider.records[key]
        if record is Record.ACCEPTED:
            failures: tuple[Record, ...] = (Record.REFUSED,) if bounds.can_fail else ()
            failures += (Record.FAILED,) if bounds.can_fail_by_our_fault and key == 0 else ()
            for outcome in (Record.SUCCEEDED, *failures):
                yield f"the provider decides {key + 1}: {outcome.value}", provider.recorded(key, outcome)
        if record in (Record.REFUSED, Record.FAILED) and bounds.contradicts and not _has_contradicted(provider):
            yield f"the provider pays {key + 1} after all", provider.recorded(key, Record.SUCCEEDED)
        if provider.cancels[key] is CancelState.UNDER_WAY:
            yield from _cancel(provider, key)
        is_quiet = not provider.requests[key] and not provider.unsent
        if bounds.has_statement and record is None and is_quiet and provider.sends:
            # The provider keeps its grace: no request is under way any more, and none of before may begin.
            read = _at(provider.statements, key, provider.sends)
            yield f"a statement without {key + 1} is read", replace(provider, statements=read)


def _has_contradicted(provider: Provider) -> bool:
    return provider.count(Record.SUCCEEDED) > 0


def _request(provider: Provider, bounds: ProviderBounds, key: int) -> Iterator[ProviderTransition]:
    if not provider.requests[key]:
        return
    fewer = replace(provider, requests=_at(provider.requests, key, provider.requests[key] - 1))
    if bounds.can_lose:
        yield f"a request of {key + 1} is lost", fewer
    arrived = fewer if fewer.records[key] is not None else fewer.recorded(key, Record.ACCEPTED)
    yield f"a request of {key + 1} arrives", arrived


def _cancel(provider: Provider, key: int) -> Iterator[ProviderTransition]:
    record = provider.records[key]
    if record in (None, Record.ACCEPTED, Record.SUCCEEDED):
        voided = replace(provider, cancels=_at(provider.cancels, key, CancelState.VOIDED))
        yield f"the provider voids {key + 1}", voided.recorded(key, Record.VOIDED)
    if record not in (None, Record.ACCEPTED):
        refused = replace(provider, cancels=_at(provider.cancels, key, CancelState.REFUSED))
        yield f"the provider refuses to void {key + 1}", refused


def _at(values: tuple, key: int, value: object) -> tuple:  # type: ignore[type-arg]
    return (*values[:key], value, *values[key + 1 :])
