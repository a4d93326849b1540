"""Books a batch of transfers in one transaction: loads and locks, decides in memory, saves.

1. What transfers name (holds, corrected transfers) is read, to know its accounts. Stored transfers never change, so no
   lock is needed.
2. Payments, then balances are locked, each in the order of their keys. What a decision depends on is read after that,
   in the same round trip: references that exist, holds that are resolved, days that are closed, and the ids.
3. The batch is decided in the order of its arrival.
4. Everything is added with one statement a table, in the round trip of the commit.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from chassis.postgres.statement import Statement
from ledger.model.accounts import Account, AccountKind, Balance
from ledger.model.charts import account_of
from ledger.model.decisions import Loaded, decide
from ledger.model.payments import Payment, PaymentAmounts, PaymentChange, PaymentStatus
from ledger.model.rows import BLOCK_BITS, BLOCK_SIZE
from ledger.model.transfers import Entry, Outcome, Stored, Transfer, TransferKind
from ledger.store import rows
from ledger.store.accounts import new_account, open_accounts

CLOSING_LOCK = 0x6C656467_00000001
"""The advisory lock that a batch shares, before it takes ids, and the closing of a day holds alone. So what is booked
after a close has higher ids than all before it."""

SEED = "ledger_seed"
KINDS = {kind.value: kind for kind in AccountKind}
SIGNS = {kind.value: kind.sign for kind in AccountKind}
"""By name: a batch has thousands of accounts, and an enumeration is slow to call."""

SHARE_CLOSING = Statement("SELECT pg_advisory_xact_lock_shared(%(key)s)")
LOCK_PAYMENTS = Statement("""
    SELECT payment_id, version, status, owner, currency, authorized_minor, captured_minor, fee_minor, refunding_minor,
           refunded_minor, disputed_minor
    FROM payments
    WHERE payment_id = ANY(CAST(%(ids)s AS text[])) ORDER BY payment_id FOR NO KEY UPDATE
""")
LOCK_BALANCES = Statement("""
    SELECT accounts.path, accounts.id, accounts.chart, accounts.code, accounts.owner, accounts.kind, accounts.currency,
           accounts.lanes, balances.lane, balances.floor_minor, balances.ceiling_minor, balances.is_closed,
           CAST(balances.debits AS text), CAST(balances.credits AS text), CAST(balances.held_debits AS text),
           CAST(balances.held_credits AS text), balances.booked_at
    FROM accounts
    JOIN balances ON balances.account_id = accounts.id AND balances.lane = mod(CAST(%(seed)s AS bigint), accounts.lanes)
    WHERE accounts.path = ANY(CAST(%(paths)s AS text[]))
    ORDER BY balances.account_id, balances.lane
    FOR NO KEY UPDATE OF balances
""")
FIND_TRANSFERS = Statement("""
    SELECT transfers.id, transfers.reference, transfers.kind, named.reference AS named, transfers.effective_at,
           transfers.booked_at, transfers.expires_at, transfers.exchange_rate, transfers.payment_id,
           transfers.payment_version, transfers.payment_status, paths, amounts, currencies
    FROM transfers
    LEFT JOIN transfers AS named ON named.id = transfers.of_id
    CROSS JOIN LATERAL (
        SELECT array_agg(path ORDER BY ordinal) AS paths, array_agg(amount_minor ORDER BY ordinal) AS amounts,
               array_agg(currency ORDER BY ordinal) AS currencies
        FROM transfer_entries JOIN accounts ON accounts.id = account_id
        WHERE transfer_id = transfers.id
    ) AS listed
    WHERE transfers.reference = ANY(CAST(%(references)s AS text[]))
""")
FIND_RESOLVED = Statement("""
    SELECT hold.reference AS hold, resolving.reference AS resolved_by
    FROM transfers AS hold
    JOIN transfers AS resolving ON resolving.of_id = hold.id AND resolving.kind IN ('POST', 'VOID')
    WHERE hold.reference = ANY(CAST(%(references)s AS text[]))
""")
FIND_CLOSED = Statement("SELECT chart, max(closed_until) AS closed_until FROM day_closes GROUP BY chart")
TAKE_BLOCKS = Statement("""
    SELECT nextval('ledger_blocks') AS block FROM generate_series(1, CAST(%(count)s AS integer))
""")


def book(transfers: Sequence[Transfer], tx: Connection, *, now: datetime) -> list[Outcome]:
    """Book a batch, and return what became of each request, in their order.

    The caller commits, and repeats the whole batch when it met another one (:mod:`ledger.store.attempts`).
    """
    loaded = load(transfers, tx, now=now)
    outcomes = [decide(transfer, loaded) for transfer in transfers]
    rows.save(loaded, tx)
    return outcomes


def load(transfers: Sequence[Transfer], tx: Connection, *, now: datetime) -> Loaded:
    """Load and lock what these transfers need. Accounts that are opened on first use are opened."""
    return load_wanted(Wanted.by(transfers), tx, now=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a batch needs: the references that it may book, those that these name, accounts by path, and payments."""

    own: frozenset[str]
    named: frozenset[str]
    paths: frozenset[str]
    payment_ids: frozenset[str]

    @classmethod
    def by(cls, transfers: Sequence[Transfer]) -> Wanted:
        """Return what these transfers need."""
        return cls(
            own=frozenset(each.reference for each in transfers),
            named=frozenset(each.of for each in transfers if each.of is not None),
            paths=frozenset(entry.account for each in transfers for entry in each.entries),
            payment_ids=frozenset(each.payment.payment_id for each in transfers if each.payment is not None),
        )


def load_wanted(wanted: Wanted, tx: Connection, *, now: datetime) -> Loaded:
    """Load and lock what a batch needs: with the accounts of the transfers that it names, and their payments."""
    # 1.
    known = _stored(tx, wanted.named) if wanted.named else {}
    paths = wanted.paths.union(entry.account for stored in known.values() for entry in stored.entries)
    moved = {stored.payment.payment_id for stored in known.values() if stored.payment is not None}
    wanted = replace(wanted, paths=paths, payment_ids=wanted.payment_ids | moved)
    # 2.
    found = _locked(wanted, tx, now)
    missing = [path for path in paths - found.accounts.keys() if _is_opened_on_use(path)]
    if missing:
        open_accounts([new_account(path, at=now) for path in missing], tx)
        found = _locked(wanted, tx, now)
    found.known |= known
    return found


def _is_opened_on_use(path: str) -> bool:
    found = account_of(path)
    return found is not None and found[0].accounts[found[1]].is_opened_on_use


def _locked(wanted: Wanted, tx: Connection, now: datetime) -> Loaded:
    """Lock, then read, all in one round trip. What is locked already is locked again without waiting."""
    references, named = sorted(wanted.own), sorted(wanted.named)
    payment_ids = sorted(wanted.payment_ids)
    SHARE_CLOSING.run(tx, {"key": CLOSING_LOCK})
    seed = _seed(references, tx)
    locked_payments = LOCK_PAYMENTS.submit(tx, {"ids": payment_ids}) if payment_ids else None
    locked = LOCK_BALANCES.submit(tx, {"paths": sorted(wanted.paths), "seed": seed})
    stored = FIND_TRANSFERS.submit(tx, {"references": references})
    resolved = FIND_RESOLVED.submit(tx, {"references": named}) if named else None
    closed = FIND_CLOSED.submit(tx, {})
    blocks = TAKE_BLOCKS.submit(tx, {"count": -(-max(1, len(references)) // BLOCK_SIZE)})
    balance_rows = locked.rows()
    payments = {} if locked_payments is None else {row.payment_id: _payment(row) for row in locked_payments.rows()}
    return Loaded(
        accounts={row.path: _account(row) for row in balance_rows},
        balances={row.id: _balance(row) for row in balance_rows},
        ids=_ids([row.block for row in blocks.rows()]),
        booked_at=max([now, *(row.booked_at for row in balance_rows)]),
        known={row.reference: _transfer(row) for row in stored.rows()},
        resolved={} if resolved is None else {row.hold: row.resolved_by for row in resolved.rows()},
        payments=payments,
        stored_payments=frozenset(payments),
        closed_until={row.chart: row.closed_until for row in closed.rows()},
    )


def _seed(references: Sequence[str], tx: Connection) -> int:
    """Return the number that chooses lanes, one for the whole transaction.

    A batch of several steps locks for each of them. With the lanes of the first one it waits for no transaction that
    waits for it. A statement has begun the transaction: before the first one a connection has none.
    """
    transaction = tx.get_transaction()
    known = tx.info.get(SEED)
    if known is None or known[0] is not transaction:
        known = tx.info[SEED] = (transaction, zlib.crc32(references[0].encode()) if references else 0)
    return int(known[1])


def _stored(tx: Connection, references: Iterable[str]) -> dict[str, Stored]:
    return {row.reference: _transfer(row) for row in FIND_TRANSFERS.rows(tx, {"references": sorted(references)})}


def _ids(blocks: Sequence[int]) -> Iterator[int]:
    for block in blocks:
        yield from range(block << BLOCK_BITS, (block + 1) << BLOCK_BITS)


def _account(row: Any) -> Account:
    return Account(
        id=row.id,
        path=row.path,
        chart=row.chart,
        code=row.code,
        owner=row.owner,
        kind=KINDS[row.kind],
        currency=row.currency,
        lanes=row.lanes,
    )


def _balance(row: Any) -> Balance:
    return Balance(
        account_id=row.id,
        lane=row.lane,
        sign=SIGNS[row.kind],
        currency=row.currency,
        floor_minor=row.floor_minor,
        ceiling_minor=row.ceiling_minor,
        is_closed=row.is_closed,
        debits=int(row.debits),
        credits=int(row.credits),
        held_debits=int(row.held_debits),
        held_credits=int(row.held_credits),
    )


def _transfer(row: Any) -> Stored:
    entries = zip(row.paths or (), row.amounts or (), row.currencies or (), strict=True)
    payment = None
    if row.payment_id is not None:
        status = PaymentStatus(row.payment_status)
        payment = PaymentChange(payment_id=row.payment_id, version=row.payment_version - 1, status=status)
    return Stored(
        id=row.id,
        reference=row.reference,
        kind=TransferKind(row.kind),
        entries=tuple(Entry(*each) for each in entries),
        of=row.named,
        effective_at=row.effective_at,
        booked_at=row.booked_at,
        expires_at=row.expires_at,
        exchange_rate=row.exchange_rate,
        payment=payment,
    )


def _payment(row: Any) -> Payment:
    amounts = None
    if row.owner is not None:
        amounts = PaymentAmounts(
            owner=row.owner,
            currency=row.currency,
            authorized_minor=row.authorized_minor,
            captured_minor=row.captured_minor,
            fee_minor=row.fee_minor,
            refunding_minor=row.refunding_minor,
            refunded_minor=row.refunded_minor,
            disputed_minor=row.disputed_minor,
        )
    return Payment(payment_id=row.payment_id, version=row.version, status=PaymentStatus(row.status), amounts=amounts)
