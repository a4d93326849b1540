"""The gateways of merchants' payments inside of the process: the port's answers at once, and records of their own.

A gateway decides by the request alone, as one outside does: it knows nothing of the database, and a repeated key
gets the first answer. What it did is kept here and written a few times a second, for the audit to compare.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from bench_providers.gateway.tables import ADD_CHARGED
from chassis.http.gateway_accounts import GatewayAccount
from chassis.process.background import Task
from chassis.saga.answers import Accepted, NotFound, Proven, QueryAnswer, SendAnswer
from chassis.saga.attempts import Outcome
from payment.gateways.port import Authorize, Capture, Refund, Refused, Requested, Taken, Void, provider_id, succeeded
from payment.gateways.registry import Gateways

DECLINED: Final = frozenset({"pm_card_visa_chargeDeclined"})
WRITTEN_EVERY_S: Final = 0.2
WRITTEN_MAX: Final = 5_000
LOCK: Final = 7_219_405_118
"""Any number that no task of payment has."""


@dataclass(slots=True)
class Charge:
    """What was done to one payment at a gateway since the last writing."""

    gateway: str
    payment_id: int
    is_open: bool = False
    authorized_minor: int = 0
    captured_minor: int = 0
    refunded_minor: int = 0


class Charges:
    """What all gateways of the process did, by payment at the gateway, and their answers by key. Thread-safe.

    Every answer is kept for as long as the process lives: a benchmark ends after minutes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[str, Proven] = {}
        self._changed: dict[str, Charge] = {}

    def answered(self, key: str) -> Proven | None:
        """Return the answer that a key has already."""
        with self._lock:
            return self._answers.get(key)

    def charge(self, gateway: str, request: Requested, key: str, known: str, answer: Proven) -> Proven:
        """Do what is requested and return the answer; for a key that has one, do nothing and return that."""
        with self._lock:
            first = self._answers.setdefault(key, answer)
            if first is answer and answer.outcome is Outcome.SUCCEEDED:
                charge = self._changed.setdefault(known, Charge(gateway, request.payment_id))
                match request:
                    case Authorize():
                        charge.authorized_minor += request.amount_minor
                        charge.is_open = True
                    case Capture():
                        charge.captured_minor += request.amount_minor
                        charge.is_open = False
                    case Void():
                        charge.is_open = False
                    case Refund():
                        charge.refunded_minor += request.amount_minor
        return first

    def task(self) -> Task:
        """Return the task that writes the records."""
        return Task(name="write the gateways' records", run=self.write, every_s=WRITTEN_EVERY_S, lock=LOCK)

    def write(self, tx: Connection) -> bool:
        """Write what was done since the last time, and return whether there is more."""
        with self._lock:
            taken = list(self._changed.items())[:WRITTEN_MAX]
            for known, _ in taken:
                del self._changed[known]
            has_more = bool(self._changed)
        if taken:
            charges = [charge for _, charge in taken]
            ADD_CHARGED.run(tx, {
                "ids": [known for known, _ in taken],
                "gateways": [each.gateway for each in charges],
                "payment_ids": [each.payment_id for each in charges],
                "open": [each.is_open for each in charges],
                "authorized": [each.authorized_minor for each in charges],
                "captured": [each.captured_minor for each in charges],
                "refunded": [each.refunded_minor for each in charges],
            })  # fmt: skip
        return has_more


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayInProcess:
    """The ``Gateway`` of one account, without a network: each request is proven by its answer."""

    account: GatewayAccount
    charges: Charges

    def send(self, request: Requested, key: str) -> SendAnswer:
        """Do what is requested, once for a key."""
        known = _id_of(request)
        return self.charges.charge(self.account.gateway, request, key, known, self._answer(request, known))

    def query(self, request: Requested, key: str, provider_id: str | None) -> QueryAnswer:
        """Return what became of an attempt."""
        return self.charges.answered(key) or NotFound()

    def cancel(self, request: Requested, key: str, provider_id: str | None) -> Accepted | Proven:
        """Cancel an authorization. What was done before stays what it is."""
        voided = Proven(outcome=Outcome.VOIDED, detail=Refused(gateway=self.account.gateway, reason="voided").detail)
        return self.charges.charge(self.account.gateway, request, key, _id_of(request), voided)

    def _answer(self, request: Requested, known: str) -> Proven:
        if isinstance(request, Authorize) and request.token in DECLINED:
            return Refused(gateway=self.account.gateway, reason="card_declined").proven()
        taken = Taken(
            gateway=self.account.gateway,
            gateway_payment_id=known,
            amount_minor=request.amount_minor,
            currency=request.currency,
        )
        kind = type(request).__name__.lower()
        own = f"{known}_{request.refund_id}" if isinstance(request, Refund) else known
        return succeeded(taken, provider_id=provider_id(self.account.name, kind, own), reference=own)


def gateways_at(accounts: Sequence[GatewayAccount], charges: Charges) -> Gateways:
    """Return the gateways of these accounts, all inside of this process."""
    return Gateways({each.name: GatewayInProcess(account=each, charges=charges) for each in accounts})


def _id_of(request: Requested) -> str:
    return f"pi_bench_{request.payment_id}"
