"""The benchmark of payments: what it follows, what it sends, and the gateways inside of the process that answer it."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import pytest

from baraza.bench import payments
from baraza.bench.follower import Follower, PaymentFollower
from baraza.bench.load import Answered, Entry, Load, saturating
from baraza.bench.merchants import MERCHANTS, PAYMENTS_OF_A_PAYER, payments_of
from baraza.bench.orders import Order, uniform_orders
from baraza.bench.payments import REPEATED_KEYS, Repeated
from bench_providers.gateway.charges import Charges, GatewayInProcess, gateways_at
from chassis.http.gateway_accounts import GatewayAccount
from chassis.saga.answers import NotFound, Proven
from chassis.saga.attempts import Outcome
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.contract import Message
from messages.merchant import PaymentSubmitted
from messages.saga import OrderConfirmed, PaymentCompleted, PaymentFailed
from payment.gateways.port import Authorize, Capture, Refund, Taken, Void
from proof.schemas import LocalRegistry
from support.builders import a
from support.waiting import until


@dataclass(frozen=True, slots=True)
class Record:
    """A message as the consumer returns it."""

    saga_id: str
    payload: bytes

    def key(self) -> bytes:
        return self.saga_id.encode()

    def value(self) -> bytes:
        return self.payload


def read_by(follower_type: type[Follower], messages: Sequence[tuple[str, Message]]) -> Follower:
    """Return a follower that has read these messages, one by one, without Kafka."""

    class Offline(follower_type):  # type: ignore[misc,valid-type]
        def _assigned(self, _kafka: object) -> None:
            self._codec = Codec(LocalRegistry())

    found = Offline(None, "http://registry.invalid")  # type: ignore[arg-type]
    for topic, message in messages:
        found._record([Record(message.saga_id, Codec(LocalRegistry()).encode(topic, message))])
    return found


@pytest.mark.parametrize("seed", range(8))
def test_a_payment_is_followed_by_its_number_in_whatever_order_its_events_are_read(seed: int) -> None:
    chance = random.Random(seed)
    print(f"seed {seed}")
    events: list[tuple[str, Message]] = []
    for number in range(20):
        saga_id = new_id()
        outcome = PaymentFailed if number % 5 == 0 else PaymentCompleted
        events.append(("merchant.events", a(PaymentSubmitted, saga_id=saga_id, payment_id=number)))
        events.append(("saga.events", a(outcome, saga_id=saga_id)))
    chance.shuffle(events)
    follower = read_by(PaymentFollower, events[:30])
    follower.accepted((str(number), 1.0) for number in range(20))
    rest = read_by(PaymentFollower, ())
    assert rest.confirmed == 0
    for topic, message in events[30:]:
        follower._record([Record(message.saga_id, Codec(LocalRegistry()).encode(topic, message))])  # type: ignore[list-item]
    assert (follower.confirmed, follower.cancelled, follower.open()) == (16, 4, 0)
    assert sorted(int(each.order_id) for each in follower.ended(0.0, 2.0)) == list(range(20))


def test_an_order_is_no_payment_and_a_payment_no_order() -> None:
    saga_id = new_id()
    ended: list[tuple[str, Message]] = [
        ("saga.events", a(OrderConfirmed, saga_id=saga_id)),
        ("saga.events", a(PaymentCompleted, saga_id=new_id())),
    ]
    for follower_type in (Follower, PaymentFollower):
        assert read_by(follower_type, ended).confirmed == 1


def test_payments_have_a_key_each_and_no_payer_pays_as_often_as_a_stolen_card() -> None:
    merchants = {f"m-{number}": ("USD", "key") for number in range(MERCHANTS)}
    sent = list(islice(payments_of(merchants), 50_000))
    assert len({each.key for each in sent}) == len(sent)
    bodies = [json.loads(each.body) for each in sent[:45_000]]
    tokens = Counter(each["payment_method"]["token"] for each in bodies)
    assert max(tokens.values()) == PAYMENTS_OF_A_PAYER < 5
    assert set(Counter(each.merchant_id for each in sent)) == set(merchants)


class Client:
    """Accepts everything; each order's id is its key."""

    def submit(self, orders: Sequence[Order]) -> list[str | None]:
        assert len(orders) == 1
        return [each.key for each in orders]

    def close(self) -> None:
        """Nothing to close."""


def test_a_load_sends_one_at_a_time_over_each_connection_and_notes_when_it_was_answered() -> None:
    follower, answered = read_by(PaymentFollower, ()), list[Answered]()
    due = saturating(follower, uniform_orders(), open_max=7, batch_size_max=1)
    began_s = time.monotonic()
    with Load(Entry(connect=Client, connections=3, batch_size_max=1), follower, due, answered):
        until(lambda: follower.open() >= 6, "six orders are open")
    assert 6 <= follower.open() <= 8, "three connections may each have had room for the last one"
    assert len(answered) == follower.open()
    assert all(began_s <= each.due_at_s <= each.at_s for each in answered)


def test_repeated_requests_fail_the_run_unless_each_key_has_one_payment() -> None:
    ids = {str(number): {f"id-{number}"} for number in range(REPEATED_KEYS)}
    good = Repeated(statuses=Counter({202: 9_900, 200: 100}), ids=ids, stored=REPEATED_KEYS)
    assert list(good.failures()) == []
    broken = (
        Repeated(ids=ids, stored=REPEATED_KEYS + 1),
        Repeated(ids={**ids, "7": {"id-7", "another"}}, stored=REPEATED_KEYS),
        Repeated(ids=dict(list(ids.items())[1:]), stored=REPEATED_KEYS),
        Repeated(ids=ids, stored=REPEATED_KEYS, unanswered=1, statuses=Counter({500: 1})),
    )
    assert all(len(list(each.failures())) == 1 for each in broken)


def test_the_limits_that_are_raised_are_those_of_callers_and_of_accounts() -> None:
    assert payments.ENVIRONMENT == {
        "merchant": {"BARAZA_REQUESTS_PER_S_MERCHANT": "100000"},
        "*": {"BARAZA_GATEWAY_REQUESTS_PER_S": "100000"},
    }


def test_what_ten_thousand_a_second_take_is_computed_from_the_processors_time_of_each_process() -> None:
    needed = payments.sizing({"merchant": 1.3, "ledger": 0.65, "postgres": 1.0, "kafka": 0.05}, 1_000)
    assert needed["cores"] == 50, "10,000 times 3 ms are 30 cores, planned for 60%"
    assert needed["processes"] == {"merchant": 20, "ledger": 10}
    assert needed["partitions"] == 40
    assert needed["stripe_accounts"] == 300


ACCOUNT = GatewayAccount.model_validate({
    "name": "stripe-test", "gateway": "stripe", "is_live": False, "url": "http://127.0.0.1:1", "api_key_file": "/none",
    "webhook_secret_file": "/none", "settlement_currency": "USD",
})  # fmt: skip
AUTHORIZE = Authorize(
    account="stripe-test", payment_id=7, amount_minor=1_299, currency="USD", token="pm_bench_1", payer="payer"
)
KNOWN = "pi_bench_7"
CAPTURE = Capture(account="stripe-test", payment_id=7, gateway_payment_id=KNOWN, amount_minor=1_299, currency="USD")
REFUND = Refund(
    account="stripe-test", payment_id=7, refund_id=9, gateway_payment_id=KNOWN, amount_minor=299, currency="USD"
)
VOID = Void(account="stripe-test", payment_id=7, gateway_payment_id=KNOWN, amount_minor=1_299, currency="USD")


def test_a_gateway_inside_of_the_process_does_what_a_key_requests_once() -> None:
    charges = Charges()
    gateways = gateways_at([ACCOUNT], charges)
    first = gateways.send(AUTHORIZE, "saga:authorize_gateway:1")
    assert isinstance(first, Proven)
    assert Taken.of(first.detail) == Taken(
        gateway="stripe", gateway_payment_id=KNOWN, amount_minor=1_299, currency="USD"
    )
    assert gateways.send(AUTHORIZE, "saga:authorize_gateway:1") is first
    assert gateways.query(AUTHORIZE, "saga:authorize_gateway:1", None) is first
    assert gateways.query(AUTHORIZE, "saga:authorize_gateway:2", None) == NotFound()
    for _ in range(2):
        gateways.send(CAPTURE, "saga:capture_or_void:1")
        gateways.send(REFUND, "refund:refund_gateway:1")
    (charge,) = charges._changed.values()
    assert (charge.authorized_minor, charge.captured_minor, charge.refunded_minor) == (1_299, 1_299, 299)
    assert not charge.is_open


def test_a_gateway_inside_of_the_process_declines_cancels_and_voids() -> None:
    charges = Charges()
    gateway = GatewayInProcess(account=ACCOUNT, charges=charges)
    declined = Authorize(
        account="stripe-test", payment_id=8, amount_minor=1, currency="USD", token="pm_card_visa_chargeDeclined",
        payer="payer",
    )  # fmt: skip
    answer = gateway.send(declined, "declined")
    assert isinstance(answer, Proven)
    assert answer.outcome is Outcome.REFUSED
    cancelled = gateway.cancel(AUTHORIZE, "cancelled", None)
    assert isinstance(cancelled, Proven)
    assert cancelled.outcome is Outcome.VOIDED
    assert charges._changed == {}
    assert gateway.send(AUTHORIZE, "cancelled") is cancelled, "a fence: what comes later under this key does nothing"
    gateway.send(AUTHORIZE, "sent")
    gateway.send(VOID, "voided")
    assert not charges._changed[KNOWN].is_open
