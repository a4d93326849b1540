"""Faults of a provider on demand: which call meets which fault.

That depends only on the seed, the operation and the caller's reference. So the same orders meet the same faults, in
whatever order their calls arrive. This module must not know what any operation does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from simulators.records import Records

DELAY_S_MAX = 600.0
"""Ten minutes: longer than any timeout that a fault may have to outlast."""

FAULTS_MAX = 100
"""Every call is matched against every fault; more than this is a mistake in the script that adds them."""


class FaultKind(StrEnum):
    """The kinds of faults, and whether the effect of the call happens."""

    DECLINE = "decline"  # a business refusal, recorded under the key
    REJECT = "reject"  # the same, in the courier's terms
    ERROR = "error"  # 5xx, no effect
    ERROR_AFTER = "error_after"  # 5xx, and the effect happens all the same
    RATE_LIMITED = "rate_limited"  # 429 with Retry-After, no effect
    SLOW = "slow"  # the effect at once, its answer after the delay
    HANG = "hang"  # the effect and its answer after the delay: a late success for a caller that timed out
    ANSWER_LOST = "answer_lost"  # the effect at once, then the connection breaks without an answer


DELAYS_S: Mapping[FaultKind, float] = {FaultKind.SLOW: 0.5, FaultKind.HANG: 5.0}
"""Delays without a ``delay_s``: slow stays within a caller's usual timeout, hang outlasts it. Others do not wait."""


class Fault(BaseModel):
    """One fault, as ``POST /admin/faults`` accepts it.

    ``match`` restricts it to one reference, token or idempotency key; ``rate`` to a seeded share of the references.
    ``times`` limits how often one reference meets it, so that a retry succeeds. With ``effect: false`` a hanging call
    ends with a broken connection and without its effect.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    operation: str
    kind: FaultKind
    rate: Annotated[float, Field(ge=0, le=1)] = 1.0
    match: str | None = None
    times: Annotated[int, Field(ge=1)] | None = None
    delay_s: Annotated[float, Field(ge=0, le=DELAY_S_MAX)] | None = None
    effect: bool = True
    retry_after_s: Annotated[int, Field(ge=0, le=3600)] = 1
    status: Annotated[int, Field(ge=500, le=599)] = 500
    code: str | None = None

    @property
    def wait_s(self) -> float:
        return DELAYS_S.get(self.kind, 0.0) if self.delay_s is None else self.delay_s


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSubject:
    """The properties of a call that a fault can match."""

    operation: str
    reference: str
    token: str
    key: str


class Faults:
    """The active faults. They are stored with the records, so a restarted simulator has the same faults."""

    def __init__(self, records: Records, *, seed: int) -> None:
        self._records = records
        self._seed = seed
        self._rules = self._load()

    def __iter__(self) -> Iterator[tuple[int, Fault]]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)

    def _load(self) -> list[tuple[int, Fault]]:
        return [(fault_id, Fault.model_validate_json(rule)) for fault_id, rule in self._records.faults()]

    def add(self, fault: Fault) -> int:
        """Activate a fault and return its id."""
        with self._records.transaction():
            fault_id = self._records.add_fault(fault.model_dump_json())
        self._rules = self._load()
        return fault_id

    def remove(self, fault_id: int) -> None:
        """Deactivate one fault, and leave the others and what they have counted."""
        with self._records.transaction():
            self._records.remove_fault(fault_id)
        self._rules = self._load()

    def clear(self) -> None:
        with self._records.transaction():
            self._records.clear_faults()
        self._rules = self._load()

    def choose(self, subject: FaultSubject) -> Fault | None:
        """Return the oldest fault that the call meets, and count it; None where it meets none."""
        for fault_id, fault in self._rules:
            if not self._meets(fault, subject):
                continue
            if fault.times is None:
                return fault
            if self._records.fault_hits(fault_id, subject.reference) < fault.times:
                with self._records.transaction():
                    self._records.hit_fault(fault_id, subject.reference)
                return fault
        return None

    def _meets(self, fault: Fault, subject: FaultSubject) -> bool:
        if fault.operation != subject.operation:
            return False
        if fault.match is not None and fault.match not in (subject.reference, subject.token, subject.key):
            return False
        return fault.rate >= 1.0 or draw(self._seed, fault, subject.reference) < fault.rate


def draw(seed: int, fault: Fault, reference: str) -> float:
    """Return a number in [0, 1) that depends only on the arguments.

    Kind and code are included, so that two faults of one operation do not select the same references.
    """
    text = f"{seed}\x1f{fault.operation}\x1f{fault.kind}\x1f{fault.code}\x1f{reference}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) / 2**64
