"""Stores notices in a transaction: the events, their deliveries, and the outbox rows of their stream on Kafka."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from sqlalchemy import Connection

from chassis.saga import outbox
from chassis.wire.codec import Codec
from notifier.domain import Failure, MerchantNotice, Planned, failed, owners, plan
from notifier.domain import Subject as SagaSubject
from notifier.outgoing import row_of
from notifier.tables import planned_for, save_planned

Save: TypeAlias = Callable[[Planned, Connection], None]


def saving(codec: Codec) -> Save:
    """Return what saves a plan. An event that is stored already is neither stored nor published again."""

    def save(planned: Planned, tx: Connection) -> None:
        outbox.save(tx, [row_of(notice, codec) for notice in save_planned(planned, tx)])

    return save


def store(notices: Sequence[MerchantNotice], save: Save, tx: Connection) -> None:
    """Store notices that no step of a saga is about."""
    if notices:
        planned = planned_for(owners(notices), tx)
        for notice in notices:
            plan(notice, planned)
        save(planned, tx)


def store_failed(found: Sequence[tuple[SagaSubject, Failure]], save: Save, tx: Connection) -> None:
    """Store the notices of sagas that have failed, of which both the subject and the failure are known."""
    store([failed(subject, failure) for subject, failure in found], save, tx)
