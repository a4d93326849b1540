"""Events of payments become records, once whatever is delivered again; a feed over HTTP is fetched with its key."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from chassis.saga.steps import Reaction
from chassis.wire.envelope import new_id
from messages.contract import Message
from messages.ledger import CaptureCommitted, PaymentCommitted, RefundCommitted, ReversalPosted, VoidCommitted
from messages.payment import GatewayCaptured, GatewayRefunded, LateCaptured, ReversalReported
from reconciliation.handlers import HANDLERS
from support.reconciling import NOON, Feed, Reconciled, both, capture

PAYMENT_ID = 9_000_000_000_000_000_123


def event(type_: type[Message], saga_type: str, saga_id: str, **fields: Any) -> Message:
    known: dict[str, Any] = {
        "message_id": new_id(), "saga_id": saga_id, "saga_type": saga_type, "saga_version": 1, "causation_id": None,
        "occurred_at": NOON, "payment_id": PAYMENT_ID, "merchant_id": "m-1", "is_live": True, "currency": "USD",
        "amount_minor": 10_000, "reference": "r", "gateway_account": "stripe-1", "capture": "NOW", "fee_minor": 100,
        "gateway": "stripe", "gateway_payment_id": "pi_1", "captured_minor": 10_000, "expires_at": None,
        "payment_saga_id": saga_id, "refund_id": 77, "refund_minor": 4_000, "gateway_refund_id": "re_1",
        "reversal_id": "v", "kind": "DISPUTED", "reversed_minor": 6_000, "gateway_reference": "dp_1", "reason": "fraud",
        **fields,
    }  # fmt: skip
    names = {name for name in type_.__dataclass_fields__ if name in known}
    return type_(**{name: known[name] for name in names})


def react(books: Reconciled, *events: Message) -> None:
    for each in events:
        (reaction,) = [own for own in HANDLERS if isinstance(own, Reaction) and own.on is type(each)]
        assert (each.saga_type, each.saga_version) in reaction.sagas
        with books.engine.begin() as tx:
            reaction.apply([each, each], tx)


def test_the_events_of_every_saga_become_records_once(books: Reconciled) -> None:
    first, later, given_back, disputed, voided = (new_id() for _ in range(5))
    events = [
        event(GatewayCaptured, "payment", first, captured_minor=0, capture="LATER"),
        event(PaymentCommitted, "payment", first, captured_minor=0, capture="LATER"),
        event(LateCaptured, "capture_later", later, captured_minor=7_000),
        event(CaptureCommitted, "capture_later", later, captured_minor=7_000),
        event(GatewayRefunded, "refund", given_back),
        event(RefundCommitted, "refund", given_back),
        event(ReversalReported, "payment_reversal", disputed),
        event(ReversalPosted, "payment_reversal", disputed),
        event(VoidCommitted, "void_payment", voided, payment_id=PAYMENT_ID + 1),
    ]
    react(books, *events, *events)
    rows = books.rows("SELECT source, kind, amount_minor, fee_minor FROM records ORDER BY 1, 2")
    assert [tuple(row) for row in rows] == [
        ("GATEWAY", "AUTHORIZED", 0, 0),
        ("GATEWAY", "CAPTURE", 7_000, 100),
        ("GATEWAY", "DISPUTED", -6_000, 0),
        ("GATEWAY", "REFUND", -4_000, 0),
        ("LEDGER", "AUTHORIZED", 0, 0),
        ("LEDGER", "CAPTURE", 7_000, 100),
        ("LEDGER", "DISPUTED", -6_000, 0),
        ("LEDGER", "REFUND", -4_000, 0),
        ("LEDGER", "VOID", 0, 0),
    ]
    known = books.rows("SELECT payment_id, gateway_payment_id FROM payments ORDER BY payment_id")
    assert [tuple(row) for row in known] == [(PAYMENT_ID, "pi_1"), (PAYMENT_ID + 1, "pi_1")]


@contextmanager
def gateway(files: dict[str, bytes], requests: list[tuple[str, str | None]]) -> Iterator[str]:
    """A gateway that lists its files and serves them to who has the key."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append((self.path, self.headers.get("Authorization")))
            name = self.path.rpartition("/")[2]
            body = (
                json.dumps({"feeds": [{"name": each} for each in files]}).encode() if name == "feeds" else files[name]
            )
            self.send_response(200 if self.headers.get("Authorization") == "Bearer sk_1" else 401)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("suffix", ["", "/feeds"])
def test_a_feed_over_http_is_listed_and_fetched_with_the_accounts_key(
    books: Reconciled, tmp_path: Path, suffix: str
) -> None:
    feed, requests = Feed("stripe"), list[tuple[str, str | None]]()
    feed.add("charge", 500, payment_id=1, pspid="pay_1", reference="c")
    key = tmp_path / "key"
    key.write_text("sk_1\n")
    with gateway({"a.csv": feed.to_csv()}, requests) as url:
        account = books.account("stripe", feed=f"{url}{suffix}", api_key_file=str(key))
        books.record(*both(capture(account, 1, 500)))
        assert books.states(books.run(account)) == {"MATCHED": 1}
    assert requests == [("/feeds", "Bearer sk_1"), ("/feeds/a.csv", "Bearer sk_1")]
    assert books.due() == 0, "the gateway is gone, and its run is late"


def test_what_is_recorded_while_a_run_is_under_way_is_in_the_next_one(books: Reconciled) -> None:
    account = books.account("stripe")
    books.due()
    late = books.engine.connect()
    books.now += timedelta(minutes=59)
    with books.engine.begin() as tx:
        from reconciliation.store import records

        records.add(both(replace(capture(account, 1, 500))), tx, now=books.now)
    books.now += timedelta(minutes=2)
    books.due()
    late.close()
    assert [row.line_count for row in books.rows("SELECT line_count FROM runs ORDER BY run")] == [0, 1]
