"""Stores notices in a transaction: the events, their deliveries, and the messages of their stream on Kafka."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

from sqlalchemy import Connection

from chassis.saga import outbox
from chassis.wire.codec import Codec
from messages.notifier import MerchantEvent
from notifier.domain import Failure, MerchantNotice, Planned, failed, owners, plan
from notifier.domain import Subject as SagaSubject
from notifier.outgoing import event_of, row_of
from notifier.tables import planned_for, save_planned

Saved = TypeVar("Saved")
Save: TypeAlias = Callable[[Planned, Connection], None]


def save(planned: Planned, tx: Connection) -> list[MerchantEvent]:
    """Save a plan, and return what is published of it. An event that is stored already is not published again."""
    return [event_of(notice) for notice in save_planned(planned, tx)]


def saving(codec: Codec) -> Save:
    """Return what saves a plan that no message has led to, with its rows in the outbox."""

    def save_with_rows(planned: Planned, tx: Connection) -> None:
        outbox.save(tx, [row_of(event, codec) for event in save(planned, tx)])

    return save_with_rows


def store(
    notices: Sequence[MerchantNotice], saved: Callable[[Planned, Connection], Saved], tx: Connection
) -> Saved | None:
    """Store notices that no step of a saga is about, and return what saving them returns."""
    if not notices:
        return None
    planned = planned_for(owners(notices), tx)
    for notice in notices:
        plan(notice, planned)
    return saved(planned, tx)


def store_failed(found: Sequence[tuple[SagaSubject, Failure]], tx: Connection) -> list[MerchantEvent] | None:
    """Store the notices of sagas that have failed, of which both the subject and the failure are known."""
    return store([failed(subject, failure) for subject, failure in found], save, tx)
