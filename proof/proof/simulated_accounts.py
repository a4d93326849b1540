"""What accounts at simulated gateways have in common: keys, answers that are lost, webhooks, and books of their own.

The real adapters call an account as they call a gateway over HTTP. The books are the gateway's: no service of ours
writes them, and the checks compare the ledger with them.
"""

from __future__ import annotations

import json
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from chassis.http.downstream import Response, Unavailable
from proof.schedule import Schedule

LOST_RATES = (0.0, 0.3, 0.9)
"""How often the webhooks of outcomes are lost that can be queried as well, in a schedule."""
WEBHOOK_S, LATE_S = 0.5, 2 * 86_400.0
EXPIRES_AFTER = timedelta(days=7)
LATER_S = 5 * 86_400.0
"""When something fails after it succeeded, at most."""
REVERSAL_RATE = 0.12


class KeyMisused(AssertionError):
    """A key was used again for another request, which a gateway refuses."""


class TooMuch(AssertionError):
    """A request is for more of a payment than was authorized or captured."""


@dataclass(slots=True, kw_only=True)
class Held:
    """A payment in a gateway's books. ``captured_minor`` is taken from the payer; a capture that failed is 0 again."""

    id: str
    payment_id: int
    amount_minor: int
    currency: str
    key: str
    status: str
    captured_minor: int = 0
    refunded_minor: int = 0
    refunding_minor: int = 0
    disputed_minor: int = 0
    was_captured_minor: int = 0
    capture: str = ""
    """The gateway's id or our key of the capture."""
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request as it came."""

    method: str
    path: str
    key: str | None
    fields: Mapping[str, Any]


@dataclass(slots=True, kw_only=True)
class SimulatedAccount(ABC):
    """One account at a gateway. ``tell`` takes its webhooks; ``on_change`` precedes what happens by itself."""

    name: str
    schedule: Schedule
    tell: Callable[[bytes], None]
    on_change: Callable[[], None]
    held: dict[str, Held] = field(default_factory=dict)
    chance: random.Random = field(init=False)
    _lost_rate: float = field(init=False)
    _decline_rate: float = field(init=False)
    _stored: dict[str, tuple[datetime, str, Response | None]] = field(default_factory=dict)
    _count: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(f"{self.name} {self.schedule.seed}")
        self._lost_rate = self.chance.choice(LOST_RATES)
        self._decline_rate = self.chance.choice((0.0, 0.1, 0.3))

    def request(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        body: Mapping[str, object] | None = None,
        form: Sequence[tuple[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Answer a request as ``payment.gateways.client.Account`` does. Raises Unavailable, and KeyMisused."""
        schedule = self.schedule
        if schedule.strikes("a request to a gateway is lost", 0.05):
            raise Unavailable("no answer in time")
        asked = ReceivedRequest(method, path, key, dict(form or ()) if body is None else body)
        schedule.note(f"{self.name} receives {method} {path} under {key}")
        response = self._once(asked) if key is not None else self.execute(asked)
        if schedule.strikes("a gateway's answer is lost", 0.05):
            raise Unavailable("no answer in time")
        return response

    def _once(self, asked: ReceivedRequest) -> Response:
        """Execute a request once for each key, until the key is deleted."""
        assert asked.key is not None, "a request under a key"
        schedule, text_of_it = self.schedule, f"{asked.path} {json.dumps(asked.fields, sort_keys=True)}"
        known = self._stored.get(asked.key)
        if known is not None and schedule.now < known[0] + self.keys_live:
            _, first, answer = known
            if first != text_of_it:
                raise KeyMisused(f"{asked.key} was used for {first}, then for {text_of_it}.")
            if answer is None:
                raise Unavailable("answered 500", headers={"idempotent-replayed": "true"})
            return Response(
                dependency=answer.dependency,
                status=answer.status,
                body=answer.body,
                headers={"idempotent-replayed": "true"} if self.tells_of_replays else {},
            )
        if schedule.strikes("a gateway answers 500", 0.05):
            # A refund whose error is stored without an effect waits for a person: no answer shows that.
            has_effect = self.chance.random() < 0.5 or asked.path.endswith("/refunds")
            response = self.execute(asked) if has_effect else None
            if self.stores_errors:
                self._stored[asked.key] = (schedule.now, text_of_it, None)
            elif response is not None:
                self._stored[asked.key] = (schedule.now, text_of_it, response)
            raise Unavailable("answered 500")
        response = self.execute(asked)
        self._stored[asked.key] = (schedule.now, text_of_it, response)
        return response

    @property
    @abstractmethod
    def keys_live(self) -> timedelta:
        """How long a key is kept."""

    @property
    @abstractmethod
    def stores_errors(self) -> bool:
        """Whether a 500 is stored under its key."""

    @property
    @abstractmethod
    def tells_of_replays(self) -> bool:
        """Whether a stored answer says that it is one."""

    @abstractmethod
    def execute(self, asked: ReceivedRequest) -> Response:
        """Execute a request."""

    # For the two kinds

    def new(self, prefix: str) -> str:
        """Return a new id."""
        self._count += 1
        return f"{prefix}{self._count}x{self.schedule.seed}"

    def answer(self, status: int, body: Mapping[str, object]) -> Response:
        """Return an answer."""
        return Response(dependency=self.name, status=status, body=body)

    def declines(self) -> bool:
        """Return whether an issuer declines."""
        return self.chance.random() < self._decline_rate

    def reverses(self) -> bool:
        """Return whether what has succeeded is taken back later."""
        return self.chance.random() < REVERSAL_RATE

    def later(self, seconds: float, change: Callable[[], None]) -> None:
        """Let something happen by itself."""

        def happen() -> None:
            self.on_change()
            change()

        self.schedule.at(self.schedule.now + timedelta(seconds=seconds * self.chance.random()), happen)

    def deliver(self, body: bytes, *, can_be_lost: bool = False) -> None:
        """Send a webhook once or twice, at once or days later, until it is taken; some can be lost for good."""
        if can_be_lost and self.chance.random() < self._lost_rate:
            self.schedule.faults["a gateway's webhook is lost"] += 1
            return
        for number in range(2 if self.chance.random() < 0.2 else 1):
            is_late = self.chance.random() < 0.2
            self.schedule.faults["a gateway's webhook is late"] += is_late
            self.schedule.faults["a gateway's webhook is doubled"] += number
            seconds = self.chance.random() * (LATE_S if is_late else WEBHOOK_S)
            self.schedule.at(self.schedule.now + timedelta(seconds=seconds), lambda: self.tell(body))
