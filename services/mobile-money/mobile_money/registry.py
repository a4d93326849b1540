"""The providers by short code: each request goes to the short code that it names, if the lane is open."""

from __future__ import annotations

from dataclasses import dataclass, field

from chassis.http.downstream import Unavailable
from chassis.saga.answers import Proven, QueryAnswer, SendAnswer
from chassis.saga.attempts import Outcome
from mobile_money.domain import Lane, LaneId
from mobile_money.lanes import LaneGate
from mobile_money.limiter import Limiter
from mobile_money.port import Payout, Provider, Refused, Requested


@dataclass(frozen=True, slots=True, kw_only=True)
class Providers:
    """The providers of all short codes, by the digits of each."""

    by_short_code: dict[str, Provider]
    gate: LaneGate
    limiters: dict[str, Limiter] = field(default_factory=dict)

    def send(self, request: Requested, key: str) -> SendAnswer:
        """Send an attempt. Nothing is sent into a lane that is paused."""
        if not isinstance(request, Payout):
            return self.of(request.short_code).send(request, key)
        lane = LaneId(short_code=request.short_code, name=Lane(request.lane))
        self.gate.check(lane)
        answer = self.of(request.short_code).send(request, key)
        if isinstance(answer, Proven) and answer.outcome is Outcome.FAILED:
            self.gate.pause_for_fault(lane, Refused.of(answer.detail, answer.outcome).reason)
        return answer

    def query(self, request: Requested, key: str, provider_id: str | None) -> QueryAnswer:
        """Return what became of an attempt."""
        return self.of(request.short_code).query(request, key, provider_id)

    def of(self, short_code: str) -> Provider:
        """Return the provider of a short code. Raises Unavailable where there is none."""
        provider = self.by_short_code.get(short_code)
        if provider is None:
            known = ", ".join(sorted(self.by_short_code)) or "none"
            raise Unavailable(
                "its short code is not configured",
                certain_no_effect=True,
                detail=f"{short_code!r} is none of {known}; check the file of short codes",
            )
        return provider

    def is_slowed(self, short_code: str) -> bool:
        """Return whether the provider has lately refused requests of this process for being too many."""
        limiter = self.limiters.get(short_code)
        return limiter is not None and limiter.is_slowed

    def own_id(self, short_code: str, key: str) -> str | None:
        """Return our id of an attempt as its provider has it; None where the short code is not configured."""
        provider = self.by_short_code.get(short_code)
        return None if provider is None else provider.own_id(key)
