"""The merchants' payments of the load: some are posted twice at once, captured later, voided, cancelled or refunded.

A request without an answer is repeated under its key, as an order is.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from baraza.chaos.due_calls import DueCalls
from baraza.storefront.payments import DECLINING, GATEWAYS, Act, Planned, Then, acts
from baraza.storefront.replay import RETRY_FOR_S, RETRYABLE
from baraza.system.client import Refused, Unreachable
from baraza.terminal import Refusal
from chassis.wire.envelope import new_id

MERCHANTS_OF_A_GATEWAY = 2
PAYERS = 5_000
"""So many that no rule of risk finds them too fast."""
AMOUNT_MINOR = (400, 40_000)
DECLINED_SHARE = 0.05
REPEATED_SHARE = 0.15
"""Posted twice at once, under one key."""
CANCELLED_SHARE = 0.04
CANCEL_AFTER_S = (0.0, 1.5)
"""About as long as a payment takes, so that some cancellations come too late."""
THEN: Mapping[Then, float] = {
    Then.NOTHING: 0.4,
    Then.CAPTURE: 0.12,
    Then.CAPTURE_PART: 0.12,
    Then.VOID: 0.1,
    Then.REFUND: 0.08,
    Then.REFUND_PARTS: 0.1,
    Then.REFUND_TWICE: 0.08,
}
"""What merchants do afterwards, with their shares."""
LOOK_S = 1.0
LOOK_FOR_S = 60.0
"""After that a payment is left as it is."""
RETRY_S = 1.0
PAYMENT_STATE = "urn:baraza:problem:payment-state"
"""The problem of what is not possible any more, or not yet."""
NOT_POSSIBLE = frozenset({PAYMENT_STATE, "urn:baraza:problem:more-than-left"})
MOVING = frozenset({"PENDING", "AUTHORIZED"})
"""Statuses from which a payment may come to the one that its merchant waits for."""


class Merchants(Protocol):
    """Where payments are requested."""

    def call(self, method: str, path: str, *, body: Any = None, headers: Mapping[str, str] | None = None) -> Any: ...


@dataclass(slots=True, kw_only=True)
class Post:
    """A payment that a merchant requests. Since ``sent_at_s`` it may be accepted."""

    planned: Planned
    key: str
    sent_at_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A payment whose merchant waits for a status in which it does what it has planned."""

    planned: Planned
    key: str
    payment_id: str
    until_s: float


@dataclass(slots=True, kw_only=True)
class Request:
    """What a merchant requests of a payment: a capture, a void, a cancellation or a refund.

    Since ``sent_at_s`` it may be accepted.
    """

    merchant_id: str
    payment_id: str
    act: Act
    sent_at_s: float | None = None


Call = Post | Look | Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """The merchants, each with its currency and its API key."""

    currencies: Mapping[str, str]
    keys: Mapping[str, str]


def named(run: str) -> dict[str, str]:
    """Return merchants of a run by their ids, each with its currency: so many at each gateway."""
    pairs = itertools.product(GATEWAYS, range(MERCHANTS_OF_A_GATEWAY))
    return {f"chaos-{currency.lower()}-{number}-{run}": currency for currency, number in pairs}


class Payments:
    """Requests payments at a steady rate while it is open, and records which were accepted. Thread-safe."""

    def __init__(
        self, merchants: Merchants, registered: Registered, *, rate: float, seed: int, outage_s: float = 0.0
    ) -> None:
        self.accepted: dict[str, str] = {}
        """Payment ids by idempotency key."""
        self.requested: Counter[str] = Counter()
        """How many captures, voids, cancellations and refunds were accepted, by their names."""
        self.refused: Counter[str] = Counter()
        """How many were not possible any more."""
        self.violations: list[str] = []
        self._merchants = merchants
        self._registered = registered
        self._between_s = 1.0 / rate
        self._retry_for_s = RETRY_FOR_S + outage_s
        self._chance = random.Random(f"payments {seed}")
        self._run = new_id()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._calls: DueCalls[Call] = DueCalls(self.make, name="payments", may_be_accepted=_may_be_accepted)
        self._pace = threading.Thread(target=self._post, name="payments-pace", daemon=True)

    @property
    def planned(self) -> Sequence[Call]:
        """The calls that are to be made, the next one first."""
        return self._calls.planned

    def open(self) -> None:
        """Begin to request payments."""
        self._calls.open()
        self._pace.start()

    def check(self) -> None:
        """Raise the error that ended a thread before its time."""
        self._calls.check()

    def end(self) -> None:
        """Request nothing more, and wait until what was sent is answered. Raises Refusal."""
        self._stop.set()
        self._calls.end()

    def close(self) -> None:
        """Drop whatever is not sent, answered or not."""
        self._stop.set()
        self._retry_for_s = 0.0
        self._calls.close()

    def post(self) -> None:
        """Plan the next payment, which is to be requested at once."""
        planned = self.next_payment()
        key = f"{self._run}-{planned.number}"
        with self._lock:
            copies = 2 if self._chance.random() < REPEATED_SHARE else 1
        for _ in range(copies):
            self._calls.plan(Post(planned=planned, key=key), 0.0)

    def next_payment(self) -> Planned:
        """Return the next payment, chosen by the seed."""
        with self._lock:
            chance, merchants = self._chance, self._registered.currencies
            merchant_id = chance.choice(sorted(merchants))
            (then,) = chance.choices(list(THEN), list(THEN.values()))
            payer = f"pm_{self._run.lower()}_household_{chance.randrange(PAYERS)}"
            return Planned(
                number=next(self._numbers),
                merchant_id=merchant_id,
                currency=merchants[merchant_id],
                amount_minor=chance.randint(*AMOUNT_MINOR),
                token=DECLINING if chance.random() < DECLINED_SHARE else payer,
                then=then,
            )

    def make(self, call: Call) -> None:
        """Make one call, and plan what follows from its answer. Raises Refusal where it can have none."""
        match call:
            case Post():
                self._pay(call)
            case Look():
                self._look(call)
            case Request():
                self._request(call)

    def _post(self) -> None:
        due_s = time.monotonic()
        while not self._stop.wait(max(0.0, due_s - time.monotonic())):
            self.post()
            due_s += self._between_s

    def _pay(self, post: Post) -> None:
        planned = post.planned
        body = planned.body(post.key)
        answer = self._answer(post, planned.merchant_id, "/v1/payments", body, post.key)
        if answer is None:
            return
        payment_id = str(answer["id"])
        with self._lock:
            is_first = post.key not in self.accepted
            known = self.accepted.setdefault(post.key, payment_id)
            if known != payment_id:
                self.violations.append(f"the key {post.key} has two payments, {known} and {payment_id}")
            is_cancelled = self._chance.random() < CANCELLED_SHARE
            cancel_after_s = self._chance.uniform(*CANCEL_AFTER_S)
        if is_first and is_cancelled:
            act = Act(name="cancel", route="cancel", body={}, key=f"{post.key}-cancel")
            request = Request(merchant_id=planned.merchant_id, payment_id=payment_id, act=act)
            self._calls.plan(request, cancel_after_s)
        elif is_first and planned.then is not Then.NOTHING:
            until_s = time.monotonic() + LOOK_FOR_S
            self._calls.plan(Look(planned=planned, key=post.key, payment_id=payment_id, until_s=until_s), LOOK_S)

    def _look(self, look: Look) -> None:
        """Request what is planned once the payment's status allows it; several refunds at once."""
        planned, path = look.planned, f"/v1/payments/{look.payment_id}"
        try:
            found = self._call(planned.merchant_id, "GET", path)
        except (Refused, Unreachable):
            found = {"status": "PENDING"}
        requests = [
            Request(merchant_id=planned.merchant_id, payment_id=look.payment_id, act=act)
            for act in acts(planned, str(found["status"]), look.key)
        ]
        for request in requests:
            self._calls.plan(request, 0.0)
        if not requests and found["status"] in MOVING and time.monotonic() < look.until_s:
            self._calls.plan(look, LOOK_S)

    def _request(self, request: Request) -> None:
        path = f"/v1/payments/{request.payment_id}/{request.act.route}"
        if self._answer(request, request.merchant_id, path, request.act.body, request.act.key) is not None:
            with self._lock:
                self.requested[request.act.name] += 1

    def _answer(self, call: Post | Request, merchant_id: str, path: str, body: Any, key: str) -> Any:
        """Return the answer; None where it is a refusal, which is counted, or where the call is made again later.

        Raises what no retry changes, and Refusal after too many of them.
        """
        if call.sent_at_s is None:
            call.sent_at_s = time.monotonic()
        try:
            return self._call(merchant_id, "POST", path, body, key)
        except Refused as error:
            if error.problem.get("type") in NOT_POSSIBLE:
                with self._lock:
                    self.refused[path.rpartition("/")[2]] += 1
                return None
            if error.status not in RETRYABLE:
                raise
            failure: Refusal = error
        except Unreachable as error:
            failure = error
        if time.monotonic() - call.sent_at_s > self._retry_for_s:
            raise Refusal(f"merchant did not take {path} under {key} within {self._retry_for_s:.0f} s: {failure}")
        self._calls.plan(call, RETRY_S)
        return None

    def _call(self, merchant_id: str, method: str, path: str, body: Any = None, key: str = "") -> Any:
        headers = {"Authorization": f"Bearer {self._registered.keys[merchant_id]}"}
        if key:
            headers["Idempotency-Key"] = key
        return self._merchants.call(method, path, body=body, headers=headers)


def _may_be_accepted(call: Call) -> bool:
    return not isinstance(call, Look) and call.sent_at_s is not None
