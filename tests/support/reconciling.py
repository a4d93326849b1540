"""Reconciliation on a database of its own, with feeds as the gateways write them: in major units, by their columns."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from chassis.http.gateway_accounts import GatewayAccount, GatewayAccounts
from chassis.postgres import migrations
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.reconciliation import DivergenceFound, SettlementReported
from reconciliation.lake import Lake
from reconciliation.model import calendar
from reconciliation.model.kinds import Kind, RunKind, Source
from reconciliation.model.records import Record
from reconciliation.reconciling import Wanted
from reconciliation.store import records
from reconciliation.store.runs import Run
from reconciliation.tasks import Reconciliation
from stack import Stack
from support.postgres import scratch_database
from support.registries import Shelf

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
"""A Wednesday; the two weeks behind it have no holiday."""
LATER = NOON + timedelta(days=20)
DIGITS = {"JPY": 0, "KRW": 0, "ISK": 0, "CLP": 0, "BHD": 3}
STRIPE_COLUMNS = (
    "balance_transaction_id", "created_utc", "currency", "gross", "fee", "net", "reporting_category", "source_id",
    "description", "customer_facing_amount", "customer_facing_currency", "automatic_payout_id", "payment_intent_id",
    "payment_metadata[payment_id]",
)  # fmt: skip
ADYEN_COLUMNS = (
    "Company Account", "Merchant Account", "Psp Reference", "Merchant Reference", "Payment Method", "Creation Date",
    "TimeZone", "Type", "Modification Reference", "Gross Currency", "Gross Debit (GC)", "Gross Credit (GC)",
    "Exchange Rate", "Net Currency", "Net Debit (NC)", "Net Credit (NC)", "Commission (NC)", "Markup (NC)",
    "Scheme Fees (NC)", "Interchange (NC)", "Batch Number",
)  # fmt: skip


def major(amount_minor: int, currency: str) -> str:
    """Return an amount as a report has it."""
    digits = DIGITS.get(currency, 2)
    return str(Decimal(amount_minor).scaleb(-digits))


def csv_of(columns: Sequence[str], rows: Sequence[dict[str, str]]) -> bytes:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue().encode()


@dataclass(slots=True)
class Feed:
    """The lines that a gateway has about its payments, in the order in which they were added."""

    gateway: str
    rows: list[dict[str, str]] = field(default_factory=list)

    def add(
        self,
        category: str,
        amount_minor: int,
        *,
        payment_id: int | None,
        pspid: str = "",
        reference: str = "",
        currency: str = "USD",
        fee_minor: int = 0,
        batch: str = "",
        local: str = "2026-03-04 12:00:00",
        zone: str = "UTC",
        id_: str | None = None,
    ) -> None:
        number = "" if payment_id is None else str(payment_id)
        if self.gateway == "stripe":
            self.rows.append({
                "balance_transaction_id": id_ or f"txn_{new_id()}", "created_utc": local, "currency": currency.lower(),
                "gross": major(amount_minor, currency), "fee": major(fee_minor, currency),
                "net": major(amount_minor - fee_minor, currency), "reporting_category": category,
                "source_id": reference, "automatic_payout_id": batch, "payment_intent_id": pspid,
                "payment_metadata[payment_id]": number,
            })  # fmt: skip
            return
        side, net_side = ("Credit" if amount_minor > 0 else "Debit"), "Credit" if amount_minor > fee_minor else "Debit"
        gross = "" if category == "MerchantPayout" else major(abs(amount_minor), currency)
        self.rows.append({
            "Psp Reference": pspid, "Merchant Reference": number, "Creation Date": local, "TimeZone": zone,
            "Type": category, "Modification Reference": reference, "Gross Currency": currency,
            f"Gross {side} (GC)": gross, "Net Currency": currency,
            f"Net {net_side} (NC)": major(abs(amount_minor - fee_minor), currency),
            "Commission (NC)": major(fee_minor, currency), "Batch Number": batch,
        })  # fmt: skip

    def to_csv(self) -> bytes:
        return csv_of(STRIPE_COLUMNS if self.gateway == "stripe" else ADYEN_COLUMNS, self.rows)


CAPTURED = {"stripe": "charge", "adyen": "Settled"}
REFUNDED = {"stripe": "refund", "adyen": "Refunded"}
DISPUTED = {"stripe": "dispute", "adyen": "Chargeback"}
PAYOUT = {"stripe": "payout", "adyen": "MerchantPayout"}
COST = {"stripe": "fee", "adyen": "Fee"}


@dataclass(slots=True)
class Reconciled:
    """A reconciliation service without its process: its database, its feeds' folder, its lake and its clock."""

    engine: Engine
    folder: Path
    lake: Lake
    accounts: list[GatewayAccount]
    now: datetime = NOON
    codec: Codec = field(default_factory=lambda: Codec(Shelf()))

    def __post_init__(self) -> None:
        self.codec.learn("reconciliation.divergences", {DivergenceFound})
        self.codec.learn("reconciliation.events", {SettlementReported})

    @property
    def service(self) -> Reconciliation:
        read = lambda: GatewayAccounts(accounts=tuple(self.accounts))  # noqa: E731
        return Reconciliation(read, self.lake, calendar.load(), self.codec, lambda: self.now)

    def account(self, gateway: str, **fields: Any) -> GatewayAccount:
        """Add an account, whose feed is a folder of its own."""
        name = f"{gateway}-{len(self.accounts) + 1}"
        feed = self.folder / name
        feed.mkdir()
        account = GatewayAccount.model_validate({
            "name": name, "gateway": gateway, "is_live": True, "url": "http://127.0.0.1:1", "api_key_file": "/none",
            "webhook_secret_file": "/none", "settlement_currency": "USD", "feed": str(feed),
            "merchant_account": "M" if gateway == "adyen" else None, **fields,
        })  # fmt: skip
        self.accounts.append(account)
        return account

    def deliver(self, account: GatewayAccount, name: str, data: bytes) -> None:
        assert account.feed is not None
        (Path(account.feed) / name).write_bytes(data)

    def record(self, *added: Record) -> None:
        with self.engine.begin() as tx:
            records.add(added, tx, now=self.now)

    def run(self, account: GatewayAccount, **wanted: Any) -> Run:
        """Fetch the account's feed and reconcile it."""
        with self.engine.begin() as tx:
            return self.service.perform(account, Wanted(**{"kind": RunKind.MANUAL, **wanted}), tx)

    def due(self) -> int:
        """Make every run that is due, and return how many there were."""
        for count in range(1_000):
            with self.engine.begin() as tx:
                if not self.service.run_due(tx):
                    return count
        raise AssertionError("a run was due for a thousand times")

    def rows(self, query: str, **parameters: Any) -> Sequence[Any]:
        with self.engine.connect() as connection:
            return connection.execute(text(query), parameters).all()

    def states(self, run: Run) -> Counter[str]:
        return Counter({row.state: row.n for row in self.rows(
            "SELECT state, count AS n FROM run_counts WHERE run = :run", run=run.run)})  # fmt: skip

    def open(self) -> dict[tuple[int | None, str], str]:
        """Return the open divergences by payment and movement."""
        found = self.rows("SELECT payment_id, movement, kind FROM divergences WHERE state = 'OPEN'")
        return {(row.payment_id, row.movement): row.kind for row in found}

    def published(self, type_: type[Any]) -> list[Any]:
        """Return the messages of a type in the outbox, in order."""
        rows = self.rows("SELECT payload FROM outbox WHERE type = :type ORDER BY seq", type=type_.__name__)
        return [self.codec.decode(bytes(row.payload)) for row in rows]


@contextmanager
def reconciled(stack: Stack, folder: Path) -> Iterator[Reconciled]:
    """Reconciliation on an empty, migrated database."""
    feeds = folder / "feeds"
    feeds.mkdir(parents=True)
    with scratch_database(stack) as engine:
        migrations.upgrade("reconciliation", engine)
        yield Reconciled(engine=engine, folder=feeds, lake=Lake(str(folder / "lake")), accounts=[])


def capture(account: GatewayAccount, payment_id: int, amount_minor: int, **fields: Any) -> Record:
    """Return the ledger's record of a capture."""
    return Record(
        **{
            "saga_id": new_id(), "source": Source.LEDGER, "kind": Kind.CAPTURE, "payment_id": payment_id,
            "merchant_id": "m-1", "is_live": True, "gateway": account.gateway, "account": account.name,
            "gateway_payment_id": f"pay_{payment_id}", "currency": "USD", "minor": amount_minor,
            "fee_minor": 10, "occurred_at": NOON, **fields,
        }
    )  # fmt: skip


def refund(account: GatewayAccount, payment_id: int, refund_id: int, amount_minor: int, **fields: Any) -> Record:
    """Return the ledger's record of a refund."""
    return capture(
        account, payment_id, amount_minor,
        **{"kind": Kind.REFUND, "refund_id": refund_id, "reference": f"ref_{refund_id}", "fee_minor": 0,
           "gateway_payment_id": None, **fields},
    )  # fmt: skip


def both(record: Record) -> tuple[Record, Record]:
    """Return the record as the ledger has it, and as our gateway records do."""
    return record, replace(record, source=Source.GATEWAY)


def as_json(value: object) -> str:
    return json.dumps(value, default=str, indent=1)
