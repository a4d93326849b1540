"""The SACCO's load: members pay in at their phones, take out, and answer prompts, while treasury brings float.

A request without an answer is repeated under its key, as an order is. A payment at a phone has no key: only the
provider's own books have what became of one without an answer.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Protocol

from baraza.chaos.due_calls import DueCalls
from baraza.storefront.replay import RETRY_FOR_S, RETRYABLE
from baraza.storefront.sacco.people import IN_PROGRESS, SHORT_CODE
from baraza.system.client import Refused, Unreachable
from baraza.terminal import Refusal
from chassis.wire.envelope import new_id

MEMBERS: Final = 40
OPENING: Final = 20_000
"""Shillings that each member pays in first, so that there is something to take out."""
PAID_IN: Final = (200, 4_000, 50)
TAKEN_OUT: Final = (100, 900, 10)
"""Of so many amounts that a member seldom requests one again while the first is open."""
REPEATED_SHARE: Final = 0.15
"""Requested twice at once, under one key."""
UNKNOWN_SHARE: Final = 0.05
"""References that name no member, so that the receipt waits for a person."""
ANSWERS: Final = ("pay", "pay", "pay", "cancel", "wrong_pin", "no_answer")
LATE_SHARE: Final = 0.4
"""Of the prompts that were not paid: these are paid seconds later all the same."""
LATE_S: Final = 5.0
RETRY_S: Final = 1.0
NOT_POSSIBLE: Final = frozenset({"request-open", "day-limit"})
"""What the door may refuse of what is requested here; any other refusal is a defect."""
TOO_LITTLE: Final = 409
"""A wallet without the money."""


class Wish(StrEnum):
    """What a member does."""

    PAY_IN = "pay in"
    TAKE_OUT = "take out"
    PROMPT = "prompt"


SHARES: Final[Mapping[Wish, float]] = {Wish.PAY_IN: 0.45, Wish.TAKE_OUT: 0.35, Wish.PROMPT: 0.2}


class Door(Protocol):
    """An API."""

    def call(self, method: str, path: str, *, body: Any = None, headers: Mapping[str, str] | None = None) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """A payment at a phone, in shillings."""

    phone: str
    reference: str
    amount: int


@dataclass(slots=True, kw_only=True)
class Request:
    """A withdrawal or a prompt that a member requests. Since ``sent_at_s`` it may be accepted.

    ``answer`` is how the phone answers the prompt.
    """

    path: str
    body: Mapping[str, Any]
    key: str
    phone: str
    answer: Mapping[str, Any] | None = None
    sent_at_s: float | None = None


Call = Deposit | Request


def members_of(run: int) -> list[dict[str, Any]]:
    """Return the members of a run as they are registered. All hold nothing yet."""
    return [
        {
            "member_id": f"M{run % 10**8:08}{number:03}",
            "name": f"Mary Synthetic {number}",
            "phone": f"2547{(run * 7919 + number) % 10**8:08}",
            "language": "sw",
            "destination": "SAVINGS",
        }
        for number in range(MEMBERS)
    ]


class Sacco:
    """Lets members act at a steady rate while it is open, and records what was accepted. Thread-safe."""

    def __init__(
        self,
        members: Door,
        provider: Door,
        people: Sequence[Mapping[str, Any]],
        *,
        rate: float,
        seed: int,
        outage_s: float = 0.0,
    ) -> None:
        self.accepted: dict[str, tuple[str, str]] = {}
        """By idempotency key: what it is, and the id, which is that of its saga."""
        self.paid_in: dict[str, int] = {}
        """The receipts that phones have shown, each with its cents."""
        self.refused: Counter[str] = Counter()
        """By the reason."""
        self.violations: list[str] = []
        self.began_at = datetime.now(UTC)
        self._members = members
        self._provider = provider
        self._people = people
        self._between_s = 1.0 / rate
        self._retry_for_s = RETRY_FOR_S + outage_s
        self._chance = random.Random(f"sacco {seed}")
        self._run = new_id()
        self._number = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._calls: DueCalls[Call] = DueCalls(self.make, name="sacco", may_be_accepted=_may_be_accepted)
        self._pace = threading.Thread(target=self._act, name="sacco-pace", daemon=True)

    @property
    def planned(self) -> Sequence[Call]:
        """The calls that are to be made, the next one first."""
        return self._calls.planned

    def counts(self) -> dict[str, int]:
        """Return how much was accepted and paid in, by its name."""
        return {**Counter(what for what, _ in self.accepted.values()), "payment": len(self.paid_in)}

    def open(self) -> None:
        """Begin: every member pays in first."""
        self._calls.open()
        for each in self._people:
            first = Deposit(phone=each["phone"], reference=f"SAV{each['member_id']}", amount=OPENING)
            self._calls.plan(first, 0.0)
        self._pace.start()

    def check(self) -> None:
        """Raise the error that ended a thread before its time."""
        self._calls.check()

    def end(self) -> None:
        """Begin nothing more, and wait until what was sent is answered. Raises Refusal."""
        self._stop.set()
        self._calls.end()

    def close(self) -> None:
        """Drop whatever is not sent, answered or not."""
        self._stop.set()
        self._retry_for_s = 0.0
        self._calls.close()

    def act(self) -> None:
        """Plan what the next member does, chosen by the seed: to be done at once."""
        with self._lock:
            self._number += 1
            chance, person = self._chance, self._chance.choice(self._people)
            (wish,) = chance.choices(list(SHARES), list(SHARES.values()))
            call = self._wished(wish, person)
            copies = 2 if isinstance(call, Request) and chance.random() < REPEATED_SHARE else 1
        for _ in range(copies):
            self._calls.plan(call, 0.0)

    def _wished(self, wish: Wish, person: Mapping[str, Any]) -> Call:
        chance, member_id, phone = self._chance, str(person["member_id"]), str(person["phone"])
        if wish is Wish.PAY_IN:
            reference = "school fees" if chance.random() < UNKNOWN_SHARE else f"SAV{member_id}"
            return Deposit(phone=phone, reference=reference, amount=chance.randrange(*PAID_IN))
        key = f"{self._run}-{self._number}"
        if wish is Wish.TAKE_OUT:
            body = {"member_id": member_id, "amount_minor": chance.randrange(*TAKEN_OUT) * 100}
            return Request(path="/v1/withdrawals", body=body, key=key, phone=phone)
        body = {"member_id": member_id, "amount_minor": chance.randrange(*PAID_IN) * 100}
        answer: dict[str, Any] = {"answer": chance.choice(ANSWERS)}
        if answer["answer"] != "pay" and chance.random() < LATE_SHARE:
            answer["paid_after_s"] = LATE_S
        return Request(path="/v1/collections", body=body, key=key, phone=phone, answer=answer)

    def make(self, call: Call) -> None:
        """Make one call, and plan it again where it has no answer. Raises Refusal where it can have none."""
        if isinstance(call, Deposit):
            self._pay_in(call)
        else:
            self._request(call)

    def _act(self) -> None:
        due_s = time.monotonic()
        while not self._stop.wait(max(0.0, due_s - time.monotonic())):
            self.act()
            due_s += self._between_s

    def _pay_in(self, deposit: Deposit) -> None:
        body = {
            "msisdn": deposit.phone, "short_code": SHORT_CODE, "amount": deposit.amount,
            "bill_reference": deposit.reference,
        }  # fmt: skip
        try:
            found = self._provider.call("POST", "/pay", body=body)
        except Unreachable:
            self._refuse("a phone without an answer")
            return
        except Refused as error:
            if error.status != TOO_LITTLE:
                raise
            self._refuse("the payer's wallet")
            return
        with self._lock:
            if found["state"] == "completed":
                self.paid_in[str(found["receipt"])] = deposit.amount * 100

    def _request(self, request: Request) -> None:
        if request.sent_at_s is None:
            request.sent_at_s = time.monotonic()
        try:
            if request.answer is not None:
                self._provider.call("POST", f"/phones/{request.phone}", body=dict(request.answer))
            headers = {"Idempotency-Key": request.key}
            answer = self._members.call("POST", request.path, body=dict(request.body), headers=headers)
        except Refused as error:
            kind = str(error.problem.get("type", ""))
            if (reason := kind.rpartition(":")[2]) in NOT_POSSIBLE:
                self._refuse(reason)
                return
            if error.status not in RETRYABLE and kind != IN_PROGRESS:
                raise
            self._repeat(request, request.sent_at_s, error)
        except Unreachable as error:
            self._repeat(request, request.sent_at_s, error)
        else:
            self._accept(request, str(answer["id"]))

    def _accept(self, request: Request, found: str) -> None:
        what = request.path.rpartition("/")[2].removesuffix("s")
        with self._lock:
            _, known = self.accepted.setdefault(request.key, (what, found))
            if known != found:
                self.violations.append(f"the key {request.key} has two {what}s, {known} and {found}")

    def _refuse(self, reason: str) -> None:
        with self._lock:
            self.refused[reason] += 1

    def _repeat(self, request: Request, sent_at_s: float, failure: Refusal) -> None:
        if time.monotonic() - sent_at_s > self._retry_for_s:
            raise Refusal(
                f"members did not take {request.path} under {request.key} within {self._retry_for_s:.0f} s: {failure}"
            )
        self._calls.plan(request, RETRY_S)


def _may_be_accepted(call: Call) -> bool:
    return isinstance(call, Request) and call.sent_at_s is not None
