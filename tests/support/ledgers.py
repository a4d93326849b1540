"""The ledger on a database of its own: its accounts, its transfers, and what SQL says about them from outside."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from threading import Event
from typing import Any

from sqlalchemy import Engine, text

from chassis.postgres import migrations
from chassis.postgres.transient import utc_now
from ledger.model.transfers import Entry, Outcome, Transfer, TransferKind
from ledger.store.accounts import new_account, open_accounts
from ledger.store.attempts import Ledger
from stack import Stack
from support.postgres import scratch_database

CURRENCY = "KES"
FUNDING = f"sacco:bank:{CURRENCY}"
"""An account without a limit, from which members' accounts are filled."""


def member(name: str, currency: str = CURRENCY) -> str:
    """Return the path of a member's account, which may not go below zero."""
    return f"sacco:fosa:{name}:{currency}"


def moved(debit: str, credit: str, amount_minor: int, currency: str = CURRENCY) -> tuple[Entry, ...]:
    """Return the two entries that debit one account and credit another."""
    return Entry(debit, amount_minor, currency), Entry(credit, -amount_minor, currency)


def reference() -> str:
    return secrets.token_hex(8)


def transfer(debit: str, credit: str, amount_minor: int, **fields: Any) -> Transfer:
    """Return a transfer of two entries under a random reference, unless ``fields`` say otherwise."""
    return Transfer(**{"reference": reference(), "entries": moved(debit, credit, amount_minor), **fields})


def hold(debit: str, credit: str, amount_minor: int, **fields: Any) -> Transfer:
    return transfer(debit, credit, amount_minor, kind=TransferKind.HOLD, **fields)


def post(of: Transfer, *entries: Entry, **fields: Any) -> Transfer:
    return Transfer(
        **{"reference": reference(), "kind": TransferKind.POST, "of": of.reference, "entries": entries, **fields}
    )


def void(of: Transfer, **fields: Any) -> Transfer:
    return Transfer(**{"reference": reference(), "kind": TransferKind.VOID, "of": of.reference, **fields})


SUMS = """
    SELECT path, coalesce(sum(amount_minor) FILTER (WHERE NOT is_hold AND amount_minor > 0), 0),
           coalesce(-sum(amount_minor) FILTER (WHERE NOT is_hold AND amount_minor < 0), 0),
           coalesce(sum(amount_minor) FILTER (WHERE is_open AND amount_minor > 0), 0),
           coalesce(-sum(amount_minor) FILTER (WHERE is_open AND amount_minor < 0), 0)
    FROM accounts
    LEFT JOIN (
        SELECT account_id, amount_minor, is_hold, is_hold AND NOT EXISTS (
            SELECT FROM transfers WHERE of_id = transfer_id AND kind IN ('POST', 'VOID')) AS is_open
        FROM transfer_entries
    ) AS entries ON account_id = accounts.id
    GROUP BY path
"""
"""Every total computed again from the entries."""
TOTALS = """
    SELECT path, sum(debits), sum(credits), sum(held_debits), sum(held_credits)
    FROM accounts JOIN balances ON account_id = accounts.id GROUP BY path
"""
UNBALANCED = """
    SELECT transfer_id, currency FROM transfer_entries JOIN accounts ON accounts.id = account_id
    GROUP BY transfer_id, currency HAVING sum(amount_minor) <> 0
"""

Totals = Mapping[str, tuple[int, int, int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerUnderTest:
    """A migrated database and a ledger on it."""

    engine: Engine
    ledger: Ledger

    def book(self, *transfers: Transfer) -> list[Outcome]:
        return self.ledger.book(transfers)

    def open(self, *paths: str, **limits: int) -> None:
        with self.engine.begin() as tx:
            open_accounts([new_account(path, at=utc_now(), **limits) for path in paths], tx)

    def fund(self, path: str, amount_minor: int, **fields: Any) -> Transfer:
        """Open an account and bring an amount to it."""
        self.open(path)
        funding = transfer(FUNDING, path, amount_minor, **fields)
        self.book(funding)
        return funding

    def rows(self, query: str, **parameters: Any) -> Sequence[Any]:
        with self.engine.connect() as connection:
            return connection.execute(text(query), parameters).all()

    def totals(self, query: str = TOTALS) -> Totals:
        return {path: tuple(map(int, found)) for path, *found in self.rows(query)}  # type: ignore[misc]

    def check(self) -> None:
        """Every transfer is balanced, and every balance is the sum of its entries."""
        assert self.rows(UNBALANCED) == []
        assert self.totals() == self.totals(SUMS)


def ledger_on(engine: Engine) -> LedgerUnderTest:
    return LedgerUnderTest(engine=engine, ledger=Ledger(engine, utc_now, Event()))


@contextmanager
def scratch_ledger(stack: Stack) -> Iterator[LedgerUnderTest]:
    """A ledger on an empty, migrated database."""
    with scratch_database(stack) as engine:
        migrations.upgrade("ledger", engine)
        yield ledger_on(engine)


def kinds(outcomes: Iterable[Outcome]) -> list[str]:
    """Return the reason of each refusal, and BOOKED or REPEATED for the others."""
    return [getattr(each, "reason", None) or ("REPEATED" if each.is_repeated else "BOOKED") for each in outcomes]  # type: ignore[union-attr]


def at(hour: int, *, day: int = 1) -> datetime:
    """Return a time in January 2026, UTC."""
    from datetime import UTC

    return datetime(2026, 1, day, hour, tzinfo=UTC)
