"""Nothing that a run writes besides its messages contains a name, an address, a card or a password."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil

from chassis.wire.envelope import new_id
from stack import contract, postgres, strays
from support.collector import Collector
from support.shop import SCARCE, SKU, Shop
from support.topics import stored
from support.waiting import until

PASSWORD_LENGTH_MIN = 20


def person() -> dict[str, str]:
    """Return an address in which every word is unique."""
    return {
        **{field: f"{field}-{new_id()}" for field in ("name", "street", "city")},
        "postal_code": new_id()[-20:],
        "country": "KE",
    }


def place(shop: Shop, words: set[str], *, sku: str = SKU, token: str = "", quantity: int = 1) -> httpx.Response:
    """Submit an order of a new customer, and add every personal word to ``words``."""
    ship_to, token = person(), token or f"tok_{new_id()}"
    words.update(value for field, value in ship_to.items() if field != "country")
    words.update([token] if token.removeprefix("tok_").isupper() else [])
    order = {
        "customer_id": f"customer-{new_id()}",
        "currency": "USD",
        "lines": [{"sku": sku, "quantity": quantity}],
        "points_to_burn": 0,
        "payment_method": {"token": token},
        "ship_to": ship_to,
    }
    url = f"{shop.stack.endpoints.url('checkout')}/v1/orders"
    headers = {"Authorization": f"Bearer {shop.token()}", "Idempotency-Key": new_id()}
    return shop.http.post(url, json=order, headers=headers)


def run(shop: Shop, collector: Collector) -> set[str]:
    """Run orders to every kind of end until their spans arrive; return the words that must not be found."""
    words: set[str] = set()
    placed = [
        place(shop, words),
        place(shop, words, sku=SCARCE),
        place(shop, words, token="tok_declined"),
        place(shop, words, token="tok_capture_declined"),
    ]
    for answer in placed:
        shop.outcome(answer.json()["order_id"])
    shop.fault("courier", operation="book", kind="error", rate=1.0)
    placed.append(place(shop, words))
    assert place(shop, words, quantity=-1).status_code == httpx.codes.UNPROCESSABLE_ENTITY
    ends = {shop.outcome(answer.json()["order_id"])["saga"]["state"] for answer in placed}
    assert ends == {"CONFIRMED", "CANCELLED_COMPENSATED"}
    for answer in placed:
        until(partial(collector.of_saga, answer.json()["order_id"]), "spans of the order arrive")
    return words


def written(shop: Shop, collector: Collector) -> Iterator[tuple[str, str]]:
    """Yield everything that was written besides the messages' payloads: where, and the text."""
    for file in (shop.stack.home / "logs").iterdir():
        yield f"the log {file.name}", file.read_text(errors="replace")
    for message in stored(shop.stack.kafka(), *contract.topics()):
        what = " ".join(f"{name}={value.decode(errors='replace')}" for name, value in message.headers.items())
        yield f"the headers of {message.topic} {message.offset}", f"{message.key!r} {what}"
    for service, urls in shop.stack.endpoints.http.items():
        for url in urls:
            answer = shop.http.get(f"{url}/metrics")
            if answer.is_success:
                yield f"the metrics of {service}", answer.text
    for number, body in enumerate(collector.bodies()):
        yield f"the spans of request {number}", body.decode(errors="replace")


def found(words: Iterable[str], texts: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{word} is in {where}" for where, text in texts for word in words if word in text]


def passwords(home: Path) -> list[str]:
    """Return every secret of the stack that is a single word."""
    texts = (file.read_text().strip() for file in (home / "secrets").iterdir())
    return [text for text in texts if len(text) >= PASSWORD_LENGTH_MIN and "\n" not in text]


def command_lines(shop: Shop) -> Iterator[tuple[str, str]]:
    state: Any = json.loads((shop.stack.home / "stack.json").read_text())
    for process in strays.find(state["id"], shop.stack.home / postgres.NAME):
        try:
            yield f"the command line of {process.name()}", " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue


def test_nothing_personal_is_written_besides_the_messages(shop: Shop, collector: Collector) -> None:
    words = run(shop, collector)
    assert len(words) > 20
    texts = list(written(shop, collector))
    kinds = {where.split()[1] for where, _ in texts}
    assert kinds == {"log", "headers", "metrics", "spans"}
    assert found(words, texts) == []
    in_messages = " ".join(str(message.value) for message in stored(shop.stack.kafka(), "checkout.events"))
    assert found(words, [("checkout.events", in_messages)]), "the search finds words that are there"


def test_no_password_is_in_a_log_a_header_a_span_or_a_command_line(shop: Shop, collector: Collector) -> None:
    secret = passwords(shop.stack.home)
    assert len(secret) > len(contract.kafka_rights()) + len(contract.database_rights())
    assert found(secret, [*written(shop, collector), *command_lines(shop)]) == []
