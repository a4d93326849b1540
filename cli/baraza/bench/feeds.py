"""The benchmark of reconciliation: a feed of many lines against as many payments, with planted divergences.

The books are rows in bulk, as events would have left them, and the feed is one CSV file. What is measured is the
service's own: reading the file, loading its lines, and the run over everything.
"""

from __future__ import annotations

import csv
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sqlalchemy import Engine, create_engine, text

from baraza.terminal import Refusal, notify
from chassis.http.gateway_accounts import GatewayAccount, GatewayAccounts
from chassis.postgres import migrations
from chassis.postgres.bounds import MIGRATING, SERVING
from chassis.postgres.database import prepare
from chassis.postgres.long_transactions import unhurried
from chassis.wire.codec import Codec
from chassis.wire.registry import Subject
from messages.reconciliation import DivergenceFound, SettlementReported
from reconciliation.lake import Lake
from reconciliation.model import calendar
from reconciliation.model.kinds import RunKind
from reconciliation.outgoing import DIVERGENCES, EVENTS
from reconciliation.reconciling import Wanted
from reconciliation.tasks import Reconciliation
from stack import postgres
from stack.lifecycle import Stack, up
from stack.settings import from_environment

NAME: Final = "bench_reconciliation"
ACCOUNT: Final = "bench"
FIRST_ID: Final = 7_000_000_000_000_000_000
AMOUNT_MINOR: Final = 10_000
FEE_MINOR: Final = 290
AT: Final = datetime(2026, 3, 4, 12, tzinfo=UTC)
PLANTED_EVERY: Final = 10_000
"""Of so many payments one diverges; the kinds take turns."""
KINDS: Final = ("MISSING_AT_GATEWAY", "AMOUNT_MISMATCH", "CURRENCY_MISMATCH", "DUPLICATE", "MISSING_IN_LEDGER")
COLUMNS: Final = (
    "balance_transaction_id", "created_utc", "currency", "gross", "fee", "net", "reporting_category", "source_id",
    "payment_intent_id", "automatic_payout_id", "payment_metadata[payment_id]",
)  # fmt: skip
RECORDS: Final = text("""
    INSERT INTO records (saga_id, source, kind, movement, payment_id, merchant_id, is_live, gateway, account,
                         gateway_payment_id, currency, amount_minor, fee_minor, occurred_at, recorded_at)
    SELECT lpad(CAST(number AS text), 26, '0'), source, 'CAPTURE', 'CAPTURE', :first + number, 'm-' || number % 457,
           true, 'stripe', :account, 'pi_' || number, 'USD', :amount, 10, :at, :at
    FROM generate_series(0, :count - 1) AS number, unnest(ARRAY['LEDGER', 'GATEWAY']) AS source
    WHERE number % :every <> 0 OR number / :every % :kinds <> 4
""")
PAYMENTS: Final = text("""
    INSERT INTO payments (account, payment_id, gateway_payment_id, merchant_id, is_live)
    SELECT account, payment_id, gateway_payment_id, merchant_id, is_live FROM records WHERE source = 'LEDGER'
""")
FOUND: Final = text("SELECT payment_id, kind FROM divergences WHERE state = 'OPEN'")


@dataclass(slots=True)
class OwnRegistry:
    """A registry of the process alone: the benchmark publishes nothing."""

    schemas: list[str] = field(default_factory=list)

    def id_of(self, subject: Subject) -> int:
        """Return the id of a subject's schema."""
        self.schemas.append(subject.message_type.SCHEMA)
        return len(self.schemas)

    def schema(self, schema_id: int) -> str | None:
        """Return the schema with an id."""
        return self.schemas[schema_id - 1] if 0 < schema_id <= len(self.schemas) else None


def measure(sizes: Sequence[int]) -> dict[str, Any]:
    """Return the seconds of a run by size. Raises Refusal where it finds other divergences than the planted ones."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="baraza-bench-") as folder:
        stack = up(from_environment({}, home=Path(folder) / "home", only=(postgres.NAME,)))
        try:
            for size in sizes:
                with _database(stack) as engine:
                    found |= _measure(engine, size, Path(folder) / str(size))
        finally:
            stack.down()
    return found


def _measure(engine: Engine, size: int, folder: Path) -> dict[str, Any]:
    feed = folder / "feed"
    feed.mkdir(parents=True)
    planted = _write(feed / "report.csv", size)
    values = {
        "first": FIRST_ID, "account": ACCOUNT, "amount": AMOUNT_MINOR, "at": AT, "count": size,
        "every": PLANTED_EVERY, "kinds": len(KINDS),
    }  # fmt: skip
    with engine.begin() as tx, unhurried(tx):
        tx.execute(RECORDS, values)
        tx.execute(PAYMENTS)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE records, payments"))
    service = _service(folder, feed)
    began_s = time.monotonic()
    with engine.begin() as tx:
        account = _account(feed)
        wanted = Wanted(kind=RunKind.MANUAL, as_of=datetime.now(UTC) + timedelta(days=60))
        run = service.perform(account, wanted, tx)
    took_s = time.monotonic() - began_s
    with engine.connect() as tx:
        found = Counter((row.payment_id, row.kind) for row in tx.execute(FOUND))
    if found != planted:
        raise Refusal(f"{len(found)} divergences were found and {len(planted)} planted; they differ. It is a defect.")
    notify(f"{size} payments: {run.line_count} lines reconciled in {took_s:.1f} s, {run.open_count} divergences")
    return {
        f"seconds_at_{size}": round(took_s, 1),
        f"lines_per_s_at_{size}": round(run.line_count / took_s),
        f"divergences_planted_at_{size}": sum(planted.values()),
        f"divergences_found_at_{size}": sum(found.values()),
    }


def _write(path: Path, size: int) -> Counter[tuple[int, str]]:
    """Write the gateway's report, and return what diverges from the books."""
    planted: Counter[tuple[int, str]] = Counter()
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in range(size):
            count, rest = divmod(number, PLANTED_EVERY)
            kind = KINDS[count % len(KINDS)] if rest == 0 else None
            writer.writerows(_lines(number, kind))
            if kind is not None:
                planted[FIRST_ID + number, kind] += 1
    return planted


def _lines(number: int, kind: str | None) -> Iterator[Sequence[str]]:
    gross = "99.00" if kind == "AMOUNT_MISMATCH" else "100.00"
    currency = "eur" if kind == "CURRENCY_MISMATCH" else "usd"
    count = {"MISSING_AT_GATEWAY": 0, "DUPLICATE": 2}.get(str(kind), 1)
    for copy in range(count):
        yield (
            f"txn_{number:x}_{copy}", "2026-03-04 12:00:00", currency, gross, "2.90", "97.10", "charge",
            f"ch_{number:x}_{copy}", f"pi_{number}", f"po_{number // 100_000}", str(FIRST_ID + number),
        )  # fmt: skip


def _service(folder: Path, feed: Path) -> Reconciliation:
    codec = Codec(OwnRegistry())
    codec.learn(DIVERGENCES, {DivergenceFound})
    codec.learn(EVENTS, {SettlementReported})
    accounts = GatewayAccounts(accounts=(_account(feed),))
    lake = Lake(str(folder / "lake"))
    return Reconciliation(lambda: accounts, lake, calendar.load(), codec, lambda: datetime.now(UTC))


def _account(feed: Path) -> GatewayAccount:
    return GatewayAccount.model_validate({
        "name": ACCOUNT, "gateway": "stripe", "is_live": False, "url": "http://127.0.0.1:1", "api_key_file": "/none",
        "webhook_secret_file": "/none", "settlement_currency": "USD", "feed": str(feed),
    })  # fmt: skip


@contextmanager
def _database(stack: Stack) -> Iterator[Engine]:
    password = stack.password(postgres.SUPERUSER)
    host, port = stack.endpoints.postgres_host, str(stack.endpoints.postgres_port)
    anywhere = make_conninfo("", host=host, port=port, user=postgres.SUPERUSER, password=password, dbname="postgres")
    with psycopg.connect(anywhere, autocommit=True, **MIGRATING.arguments) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(NAME)))
        url = f"postgresql+psycopg://{postgres.SUPERUSER}:{password}@{host}:{port}/{NAME}"
        engine = prepare(create_engine(url, connect_args=SERVING.arguments), answer_s=SERVING.answer_s)
        try:
            migrations.upgrade("reconciliation", engine)
            yield engine
        finally:
            engine.dispose()
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(NAME)))
