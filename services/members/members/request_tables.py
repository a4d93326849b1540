"""Every statement on what members request: collections, withdrawals and repayments from savings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import Connection, Row, text

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from members.tables import collections, repayments, withdrawals

RequestRow: TypeAlias = Row[tuple[Any, ...]]
"""A row of ``collections``, ``withdrawals`` or ``repayments``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCollection:
    """A collection to store."""

    collection_id: str
    member_id: str
    provider: str
    short_code: str
    reference: str
    target: str
    phone: str
    currency: str
    amount_minor: int
    requested_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWithdrawal:
    """A withdrawal to store."""

    withdrawal_id: str
    member_id: str
    provider: str
    short_code: str
    phone: str
    currency: str
    amount_minor: int
    fee_minor: int
    excise_minor: int
    requested_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRepayment:
    """A repayment from savings to store."""

    repayment_id: str
    member_id: str
    loan_id: str
    currency: str
    amount_minor: int
    requested_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionFacts:
    """What is known of a collection."""

    collection_id: str
    state: str
    is_paid: bool
    failure: str | None
    failure_detail: str | None
    receipt: str | None
    received_minor: int | None
    prompted_at: datetime | None
    ended_at: datetime | None


COLLECTION_COLUMNS = Columns.of(collections)
WITHDRAWAL_COLUMNS = Columns.of(withdrawals)
REPAYMENT_COLUMNS = Columns.of(repayments)
NEW_COLLECTIONS = COLLECTION_COLUMNS.only(*NewCollection.__dataclass_fields__)
NEW_WITHDRAWALS = WITHDRAWAL_COLUMNS.only(*NewWithdrawal.__dataclass_fields__)
NEW_REPAYMENTS = REPAYMENT_COLUMNS.only(*NewRepayment.__dataclass_fields__)
FACTS = COLLECTION_COLUMNS.only(*CollectionFacts.__dataclass_fields__)

INSERT_COLLECTIONS = Statement(f"""
    INSERT INTO collections ({NEW_COLLECTIONS.names}, state, is_paid)
    SELECT {NEW_COLLECTIONS.values}, 'REQUESTED', false FROM {NEW_COLLECTIONS.rows}
""")

INSERT_WITHDRAWALS = Statement(f"""
    INSERT INTO withdrawals ({NEW_WITHDRAWALS.names}, state)
    SELECT {NEW_WITHDRAWALS.values}, 'REQUESTED' FROM {NEW_WITHDRAWALS.rows}
""")

INSERT_REPAYMENTS = Statement(f"""
    INSERT INTO repayments ({NEW_REPAYMENTS.names}, state)
    SELECT {NEW_REPAYMENTS.values}, 'REQUESTED' FROM {NEW_REPAYMENTS.rows}
""")

RECENT = Statement("""
    SELECT 'collection' AS kind, collection_id AS id, member_id, phone, amount_minor, requested_at, ended_at IS NULL
           AS is_open
    FROM collections WHERE member_id = ANY(CAST(%(ids)s AS text[])) AND ended_at IS NULL AND requested_at >= %(since)s
    UNION ALL
    SELECT 'withdrawal', withdrawal_id, member_id, phone, amount_minor, requested_at, ended_at IS NULL
    FROM withdrawals
    WHERE (member_id = ANY(CAST(%(ids)s AS text[])) OR phone = ANY(CAST(%(phones)s AS text[])))
      AND state NOT IN ('FAILED', 'CANCELLED') AND requested_at >= %(day)s
    UNION ALL
    SELECT 'repayment', repayment_id, member_id, loan_id, amount_minor, requested_at, ended_at IS NULL
    FROM repayments WHERE member_id = ANY(CAST(%(ids)s AS text[])) AND ended_at IS NULL AND requested_at >= %(since)s
""")

COLLECTIONS = Statement(f"""
    SELECT {COLLECTION_COLUMNS.names} FROM collections WHERE collection_id = ANY(CAST(%(ids)s AS text[]))
""")

LOCK_COLLECTIONS = Statement(f"""
    SELECT {COLLECTION_COLUMNS.names} FROM collections
    WHERE collection_id = ANY(CAST(%(ids)s AS text[])) OR reference = ANY(CAST(%(references)s AS text[]))
    ORDER BY collection_id
    FOR UPDATE
""")

SAVE_COLLECTIONS = Statement(f"""
    UPDATE collections SET {FACTS.assignments} FROM {FACTS.rows} WHERE collections.collection_id = row.collection_id
""")

WITHDRAWALS = Statement(f"""
    SELECT {WITHDRAWAL_COLUMNS.names} FROM withdrawals WHERE withdrawal_id = ANY(CAST(%(ids)s AS text[]))
""")

REPAYMENTS = Statement(f"""
    SELECT {REPAYMENT_COLUMNS.names} FROM repayments WHERE repayment_id = ANY(CAST(%(ids)s AS text[]))
""")

END_WITHDRAWALS = Statement("""
    WITH row AS (
        SELECT withdrawal_id FROM withdrawals WHERE withdrawal_id = ANY(CAST(%(ids)s AS text[]))
        ORDER BY withdrawal_id FOR UPDATE
    ), ended AS (
        SELECT * FROM unnest(CAST(%(ids)s AS text[]), CAST(%(states)s AS text[]), CAST(%(causes)s AS text[]),
                             CAST(%(reasons)s AS text[]), CAST(%(receipts)s AS text[]),
                             CAST(%(times)s AS timestamptz[]))
            AS ended (withdrawal_id, state, cause, reason, receipt, at)
    )
    UPDATE withdrawals
    SET state = ended.state, failure_cause = ended.cause, failure_reason = ended.reason,
        receipt = coalesce(withdrawals.receipt, ended.receipt), ended_at = coalesce(withdrawals.ended_at, ended.at)
    FROM ended JOIN row USING (withdrawal_id)
    WHERE withdrawals.withdrawal_id = ended.withdrawal_id AND withdrawals.state <> 'PAID'
""")

END_REPAYMENTS = Statement("""
    WITH row AS (
        SELECT repayment_id FROM repayments WHERE repayment_id = ANY(CAST(%(ids)s AS text[]))
        ORDER BY repayment_id FOR UPDATE
    ), ended AS (
        SELECT * FROM unnest(CAST(%(ids)s AS text[]), CAST(%(states)s AS text[]), CAST(%(reasons)s AS text[]),
                             CAST(%(allocations)s AS text[]), CAST(%(times)s AS timestamptz[]))
            AS ended (repayment_id, state, reason, allocations, at)
    )
    UPDATE repayments
    SET state = ended.state, failure_reason = ended.reason, allocations = CAST(ended.allocations AS jsonb),
        ended_at = ended.at
    FROM ended JOIN row USING (repayment_id)
    WHERE repayments.repayment_id = ended.repayment_id AND repayments.ended_at IS NULL
""")

REQUEST_CANCELLATION = text("""
    UPDATE withdrawals SET cancellation_requested_at = :now
    WHERE withdrawal_id = :withdrawal_id AND cancellation_requested_at IS NULL AND ended_at IS NULL
""")
COLLECTIONS_OF = text(f"""
    SELECT {COLLECTION_COLUMNS.names} FROM collections
    WHERE member_id = :member_id AND collection_id < :before ORDER BY collection_id DESC LIMIT :limit
""")
WITHDRAWALS_OF = text(f"""
    SELECT {WITHDRAWAL_COLUMNS.names} FROM withdrawals
    WHERE member_id = :member_id AND withdrawal_id < :before ORDER BY withdrawal_id DESC LIMIT :limit
""")
REPAYMENTS_OF = text(f"""
    SELECT {REPAYMENT_COLUMNS.names} FROM repayments
    WHERE member_id = :member_id AND repayment_id < :before ORDER BY repayment_id DESC LIMIT :limit
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end of a withdrawal or of a repayment."""

    id: str
    state: str
    at: datetime
    cause: str | None = None
    reason: str | None = None
    receipt: str | None = None
    allocations: str | None = None


def insert(
    tx: Connection,
    new_collections: Sequence[NewCollection],
    new_withdrawals: Sequence[NewWithdrawal],
    new_repayments: Sequence[NewRepayment],
) -> None:
    """Store what members request, in one statement for each kind."""
    if new_collections:
        INSERT_COLLECTIONS.run(tx, NEW_COLLECTIONS.parameters(new_collections))
    if new_withdrawals:
        INSERT_WITHDRAWALS.run(tx, NEW_WITHDRAWALS.parameters(new_withdrawals))
    if new_repayments:
        INSERT_REPAYMENTS.run(tx, NEW_REPAYMENTS.parameters(new_repayments))


def recent(
    tx: Connection, members: Collection[str], phones: Collection[str], *, since: datetime, day: datetime
) -> list[Any]:
    """Return what these members have open since a time, and the withdrawals of the day, also those to these phones."""
    return RECENT.rows(tx, {"ids": sorted(members), "phones": sorted(phones), "since": since, "day": day})


def load_collections(tx: Connection, ids: Collection[str]) -> dict[str, RequestRow]:
    """Return these collections; unknown ones are missing."""
    return {row.collection_id: row for row in COLLECTIONS.rows(tx, {"ids": sorted(ids)})}


def lock_collections(tx: Connection, ids: Collection[str], references: Collection[str] = ()) -> dict[str, RequestRow]:
    """Lock collections by their ids or by their references, in one order, and return them by id."""
    if not ids and not references:
        return {}
    rows = LOCK_COLLECTIONS.rows(tx, {"ids": sorted(ids), "references": sorted(references)})
    return {row.collection_id: row for row in rows}


def save_collections(tx: Connection, facts: Sequence[CollectionFacts]) -> None:
    """Store what became known of collections whose rows are locked."""
    if facts:
        SAVE_COLLECTIONS.run(tx, FACTS.parameters(facts))


def load_withdrawals(tx: Connection, ids: Collection[str]) -> dict[str, RequestRow]:
    """Return these withdrawals; unknown ones are missing."""
    return {row.withdrawal_id: row for row in WITHDRAWALS.rows(tx, {"ids": sorted(ids)})}


def load_repayments(tx: Connection, ids: Collection[str]) -> dict[str, RequestRow]:
    """Return these repayments; unknown ones are missing."""
    return {row.repayment_id: row for row in REPAYMENTS.rows(tx, {"ids": sorted(ids)})}


def end_withdrawals(tx: Connection, ended: Sequence[Ended]) -> None:
    """Note how withdrawals ended. One that is paid stays so, whatever comes after it."""
    if ended:
        rows = {each.id: each for each in ended if each.state != "PAID"} | {
            each.id: each for each in ended if each.state == "PAID"
        }
        found = list(rows.values())
        parameters = {
            "ids": [each.id for each in found],
            "states": [each.state for each in found],
            "causes": [each.cause for each in found],
            "reasons": [each.reason for each in found],
            "receipts": [each.receipt for each in found],
            "times": [each.at for each in found],
        }
        END_WITHDRAWALS.run(tx, parameters)


def end_repayments(tx: Connection, ended: Sequence[Ended]) -> None:
    """Note how repayments ended, once."""
    if ended:
        found = list({each.id: each for each in ended}.values())
        parameters = {
            "ids": [each.id for each in found],
            "states": [each.state for each in found],
            "reasons": [each.reason for each in found],
            "allocations": [each.allocations for each in found],
            "times": [each.at for each in found],
        }
        END_REPAYMENTS.run(tx, parameters)


def request_cancellation(tx: Connection, withdrawal_id: str, *, now: datetime) -> bool:
    """Note a request to cancel a withdrawal. Return False where one is noted, or the withdrawal has ended."""
    return tx.execute(REQUEST_CANCELLATION, {"withdrawal_id": withdrawal_id, "now": now}).rowcount == 1


def page(tx: Connection, query: Any, *, member_id: str, before: str, limit: int) -> list[RequestRow]:
    """Return a page of what a member requested, the newest first."""
    return list(tx.execute(query, {"member_id": member_id, "before": before, "limit": limit}))
