"""Every statement on members, their accounts, phones, and what they hold for dividends."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, TypeAlias

from sqlalchemy import Connection, Row, text

from chassis.postgres.columns import SQLALCHEMY, Columns
from chassis.postgres.statement import Statement
from members.tables import accounts, holdings, member_phones, members

MemberRow: TypeAlias = Row[tuple[Any, ...]]
"""A row of ``members``."""

KINDS = ("SAVINGS", "DEPOSITS", "SHARES")
COLUMNS = Columns.of(members, parameter=SQLALCHEMY)
NEW = Columns.of(members, without=("status_reason", "failure_reason", "onboarded_at"))
HOLDINGS = Columns.of(holdings)
PHONES = Columns.of(member_phones, parameter=SQLALCHEMY)
FIRST_PHONES = Columns.of(member_phones, sources={"added_at": "registered_at"})
ACCOUNTS = Columns.of(accounts, parameter=SQLALCHEMY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What one source added to a member's shares or deposits in a month."""

    source: str
    member_id: str
    kind: str
    month: date
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMember:
    """A member who is registered, with the first phone and its hash."""

    member_id: str
    saga_id: str
    name: str
    language: str
    policy: str
    destination: str
    phone: str
    payer_hash: str | None
    day_max_minor: int | None
    currency: str
    registered_at: datetime
    state: str = "REGISTERED"
    status: str = "ACTIVE"


MEMBERS = Statement(f"SELECT {COLUMNS.names} FROM members WHERE member_id = ANY(CAST(%(ids)s AS text[]))")

LOCK = Statement(f"""
    SELECT {COLUMNS.names} FROM members WHERE member_id = ANY(CAST(%(ids)s AS text[])) ORDER BY member_id FOR UPDATE
""")

STATUSES = Statement("SELECT member_id, kind, status FROM accounts WHERE member_id = ANY(CAST(%(ids)s AS text[]))")

PHONES_OF_MEMBERS = Statement("""
    SELECT member_id, phone FROM member_phones WHERE member_id = ANY(CAST(%(ids)s AS text[]))
""")

BY_HASH = Statement("""
    SELECT payer_hash, min(member_id) AS member_id FROM member_phones
    WHERE payer_hash = ANY(CAST(%(hashes)s AS text[])) GROUP BY payer_hash HAVING count(*) = 1
""")

ADD_HOLDINGS = Statement(f"""
    INSERT INTO holdings ({HOLDINGS.names}) SELECT {HOLDINGS.values} FROM {HOLDINGS.rows}
    ON CONFLICT (source, member_id, kind) DO NOTHING
""")

INSERT = Statement(f"""
    INSERT INTO members ({NEW.names}) SELECT {NEW.values} FROM {NEW.rows}
    ON CONFLICT (member_id) DO NOTHING RETURNING member_id
""")

INSERT_ACCOUNTS = Statement("""
    INSERT INTO accounts (member_id, kind, status)
    SELECT member_id, kind, 'ACTIVE'
    FROM unnest(CAST(%(member_ids)s AS text[])) AS member_id, unnest(CAST(%(kinds)s AS text[])) AS kind
""")

INSERT_FIRST_PHONES = Statement(f"""
    INSERT INTO member_phones ({FIRST_PHONES.names}) SELECT {FIRST_PHONES.values} FROM {FIRST_PHONES.rows}
    ON CONFLICT DO NOTHING
""")

INSERT_PHONE = text("""
    INSERT INTO member_phones (phone, member_id, payer_hash, added_at)
    VALUES (:phone, :member_id, :payer_hash, :added_at) ON CONFLICT DO NOTHING
""")

PHONES_OF = text(f"SELECT {PHONES.names} FROM member_phones WHERE member_id = :member_id ORDER BY added_at, phone")

ONBOARD = text("""
    UPDATE members SET state = 'ACTIVE', onboarded_at = :at, failure_reason = NULL
    WHERE saga_id = :saga_id AND onboarded_at IS NULL
""")

FAIL = text("""
    UPDATE members SET state = 'FAILED', failure_reason = :reason WHERE saga_id = :saga_id AND state = 'REGISTERED'
""")

RESTART = text("""
    UPDATE members SET state = 'REGISTERED', saga_id = :saga_id WHERE member_id = :member_id AND state = 'FAILED'
""")

SET_STATUS = text("UPDATE members SET status = :status, status_reason = :reason WHERE member_id = :member_id")

SET_ACCOUNT = text("UPDATE accounts SET status = :status WHERE member_id = :member_id AND kind = :kind")

CHANGE = text("""
    UPDATE members
    SET phone = coalesce(:phone, phone), destination = coalesce(:destination, destination),
        language = coalesce(:language, language), policy = coalesce(:policy, policy),
        day_max_minor = coalesce(CAST(:day_max_minor AS bigint), day_max_minor)
    WHERE member_id = :member_id
""")

PAGE = text(f"""
    SELECT {COLUMNS.names} FROM members
    WHERE member_id > :after AND (CAST(:state AS text) IS NULL OR state = :state)
      AND (CAST(:status AS text) IS NULL OR status = :status)
      AND (CAST(:phone AS text) IS NULL OR member_id IN (SELECT member_id FROM member_phones WHERE phone = :phone))
    ORDER BY member_id LIMIT :limit
""")

ACTIVE = text("SELECT member_id, destination, status FROM members WHERE state = 'ACTIVE'")


def load(tx: Connection, ids: Collection[str]) -> dict[str, MemberRow]:
    """Return these members by number; unknown ones are missing."""
    return {row.member_id: row for row in MEMBERS.rows(tx, {"ids": sorted(ids)})} if ids else {}


def lock(tx: Connection, ids: Collection[str]) -> dict[str, MemberRow]:
    """Lock these members' rows in the order of their numbers, and return them."""
    return {row.member_id: row for row in LOCK.rows(tx, {"ids": sorted(ids)})} if ids else {}


def statuses(tx: Connection, ids: Collection[str]) -> dict[str, dict[str, str]]:
    """Return the status of each account of these members."""
    found: dict[str, dict[str, str]] = {}
    for row in STATUSES.rows(tx, {"ids": sorted(ids)}) if ids else ():
        found.setdefault(row.member_id, {})[row.kind] = row.status
    return found


def phones_of(tx: Connection, ids: Collection[str]) -> dict[str, set[str]]:
    """Return the phones of each of these members."""
    found: dict[str, set[str]] = {}
    for row in PHONES_OF_MEMBERS.rows(tx, {"ids": sorted(ids)}) if ids else ():
        found.setdefault(row.member_id, set()).add(row.phone)
    return found


def by_hash(tx: Connection, hashes: Collection[str]) -> dict[str, str]:
    """Return whose phones these hashes are of. A phone of several members is a hint to none."""
    if not hashes:
        return {}
    return {row.payer_hash: row.member_id for row in BY_HASH.rows(tx, {"hashes": sorted(hashes)})}


def add_holdings(tx: Connection, new: Sequence[Holding]) -> None:
    """Note what members hold for dividends; what a source brought before is not added again."""
    if new:
        ADD_HOLDINGS.run(
            tx, HOLDINGS.parameters(sorted(new, key=lambda each: (each.source, each.member_id, each.kind)))
        )


def insert(tx: Connection, new: Sequence[NewMember]) -> set[str]:
    """Store members with their accounts and phones. Return the numbers that were not taken before."""
    ordered = sorted(new, key=lambda each: each.member_id)
    inserted = {str(row.member_id) for row in INSERT.rows(tx, NEW.parameters(ordered))} if ordered else set()
    if inserted:
        INSERT_ACCOUNTS.run(tx, {"member_ids": sorted(inserted), "kinds": list(KINDS)})
        begun = [each for each in ordered if each.member_id in inserted]
        INSERT_FIRST_PHONES.run(tx, FIRST_PHONES.parameters(begun))
    return inserted


def add_phone(tx: Connection, *, member_id: str, phone: str, payer_hash: str | None, now: datetime) -> None:
    """Add a phone to a member's."""
    tx.execute(INSERT_PHONE, {"member_id": member_id, "phone": phone, "payer_hash": payer_hash, "added_at": now})


def phones(tx: Connection, member_id: str) -> list[Any]:
    """Return a member's phones, the first one first."""
    return list(tx.execute(PHONES_OF, {"member_id": member_id}))


def onboard(tx: Connection, at_by_saga: Mapping[str, datetime]) -> None:
    """Note that the accounts of the members of these sagas are open."""
    for saga_id, at in sorted(at_by_saga.items()):
        tx.execute(ONBOARD, {"saga_id": saga_id, "at": at})


def fail(tx: Connection, reasons: Mapping[str, str]) -> None:
    """Note why the accounts of the members of these sagas could not be opened."""
    for saga_id, reason in sorted(reasons.items()):
        tx.execute(FAIL, {"saga_id": saga_id, "reason": reason})


def restart(tx: Connection, member_id: str, saga_id: str) -> bool:
    """Let the accounts of a member whose onboarding failed be opened by another saga. Return False for others."""
    return tx.execute(RESTART, {"member_id": member_id, "saga_id": saga_id}).rowcount == 1


def set_status(tx: Connection, member_id: str, status: str, reason: str) -> None:
    """Change the status of a member."""
    tx.execute(SET_STATUS, {"member_id": member_id, "status": status, "reason": reason})


def set_account(tx: Connection, member_id: str, kind: str, status: str) -> bool:
    """Change the status of an account. Return False where there is none."""
    return tx.execute(SET_ACCOUNT, {"member_id": member_id, "kind": kind, "status": status}).rowcount == 1


def change(tx: Connection, member_id: str, **changes: object) -> None:
    """Change what is given of a member; None leaves a value as it is."""
    tx.execute(CHANGE, {"member_id": member_id, **changes})


def page(tx: Connection, **filters: object) -> list[MemberRow]:
    """Return members whose number comes after ``after``, in the order of their numbers."""
    return list(tx.execute(PAGE, filters))


def active(tx: Connection) -> Iterable[MemberRow]:
    """Return each member with open accounts: its number, its status, and where its dividends go."""
    return tx.execute(ACTIVE).all()
