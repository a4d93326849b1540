"""Calls of a service's processes to its provider: when they begin and arrive, and whether an answer comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from chassis.http.downstream import Unavailable
from chassis.process.calls import START_MARGIN
from chassis.saga.unit_of_work import CallResult, PendingCall
from proof.schedule import BEGINNING, Schedule

AWAY_S = 60.0
"""How long a provider may be away, longer than all attempts at a call."""
CLIENT_TIMEOUT_S = 2.0
START_DELAY_S = 2.0
"""How long a call may wait for a thread; longer than the chassis's margin allows, so that some are not begun."""


@dataclass(slots=True, kw_only=True)
class CallTransport:
    """The way to the provider that a service calls, who may be away until some time."""

    schedule: Schedule
    away_until: datetime = BEGINNING

    def begin(self, call: PendingCall, answered: Callable[[CallResult], None], is_alive: Callable[[], bool]) -> None:
        """Plan when a call begins; of a process that is not alive any more it does not."""
        schedule = self.schedule
        delay = schedule.within(START_DELAY_S if schedule.strikes("no thread free", 0.1) else 0.1)
        schedule.at(schedule.now + delay, lambda: self._send(call, answered) if is_alive() else None)

    def _send(self, call: PendingCall, answered: Callable[[CallResult], None]) -> None:
        """Plan when it arrives, and when and whether the answer comes."""
        schedule = self.schedule

        def fail(reason: str, retry_after_s: float | None = None) -> Callable[[], None]:
            return lambda: answered(CallResult(call=call, failure=Unavailable(reason, retry_after_s)))

        if schedule.now > call.deadline_at - START_MARGIN and not call.is_query:
            fail("no free thread in time")()
            return
        gives_up_at = schedule.now + timedelta(seconds=CLIENT_TIMEOUT_S)
        if schedule.strikes("a provider is away", 0.03):
            self.away_until = schedule.now + schedule.within(AWAY_S)
        is_away = schedule.are_faults_on and schedule.now < self.away_until
        if is_away or schedule.strikes("5xx", 0.15):
            schedule.at(schedule.now + schedule.within(0.5), fail("503", schedule.chance.choice((None, 3.0))))
        elif schedule.strikes("slower than the timeout", 0.1):
            latest = gives_up_at if call.is_query else min(call.deadline_at, gives_up_at + schedule.within(1.0))
            schedule.at(schedule.now + (latest - schedule.now) * schedule.chance.random(), lambda: _run(call))
            schedule.at(gives_up_at, fail("no answer in time"))
        elif schedule.strikes("answer lost", 0.1):
            schedule.at(schedule.now + schedule.within(1.0), lambda: _run(call))
            schedule.at(schedule.now + timedelta(seconds=1.5), fail("connection reset"))
        else:
            schedule.at(schedule.now + schedule.within(1.0), self._answer(call, answered))

    def _answer(self, call: PendingCall, answered: Callable[[CallResult], None]) -> Callable[[], None]:
        def answer() -> None:
            outcome, schedule = _run(call), self.schedule
            schedule.at(schedule.now + schedule.within(0.5), lambda: answered(CallResult(call=call, outcome=outcome)))

        return answer


def _run(call: PendingCall) -> object:
    if call.is_query:
        return call.handler.call.find(call.key)
    return call.handler.call.run(call.request, call.key)
