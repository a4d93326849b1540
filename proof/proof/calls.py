"""Calls of a service's processes to its provider: when they begin and arrive, and whether an answer comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from chassis.http.downstream import TooLate, Unavailable
from chassis.saga.steps import ExternalStep
from chassis.saga.unit_of_work import CallResult, PendingCall
from proof.schedule import BEGINNING, Schedule

AWAY_S = 60.0
"""How long a provider may be away, longer than all attempts at a call."""
CLIENT_TIMEOUT_S = 2.0
START_DELAY_S = 2.0
"""How long a call may wait for a thread; longer than the chassis allows, so that some are not begun."""
STANDSTILL_S = 20.0
"""How long after its deadline a call may be made by a process that stood still."""
LOOKUP_S = 10.0
"""How long the lookup of the provider's name may take, longer than any call."""


def sends_until(call: PendingCall, began_at: datetime) -> datetime:
    """Return when the client of a call breaks it off, as :mod:`chassis.http.timed_connections` does."""
    ends_at = began_at + timedelta(seconds=CLIENT_TIMEOUT_S)
    return ends_at if call.is_query else min(ends_at, call.sends_until)


@dataclass(slots=True, kw_only=True)
class CallTransport:
    """The way to the provider that a service calls, who may be away until some time."""

    schedule: Schedule
    away_until: datetime = BEGINNING

    def begin(self, call: PendingCall, answered: Callable[[CallResult], None], is_alive: Callable[[], bool]) -> None:
        """Plan when a call begins; of a process that is not alive any more it does not."""
        schedule = self.schedule
        delay = schedule.within(START_DELAY_S if schedule.strikes("no thread free", 0.1) else 0.1)
        schedule.at(schedule.now + delay, lambda: self._begin(call, answered, is_alive) if is_alive() else None)

    def _begin(self, call: PendingCall, answered: Callable[[CallResult], None], is_alive: Callable[[], bool]) -> None:
        """Look the provider's name up and send the request, unless the call's time is over by then."""
        schedule = self.schedule
        if schedule.now > call.begins_by and not call.is_query:
            answered(CallResult(call=call, failure=TooLate("no free thread in time")))
            return
        if _can_be_undone(call) and schedule.strikes("stands still before a request", 0.02):
            late_at = call.deadline_at + schedule.within(STANDSTILL_S)
            schedule.at(late_at, lambda: self._send_late(call, answered) if is_alive() else None)
            return
        gives_up_at = sends_until(call, schedule.now)
        lookup = schedule.within(LOOKUP_S) if schedule.strikes("slow name lookup", 0.05) else timedelta(0)
        if schedule.now + lookup > gives_up_at:
            unreachable = Unavailable("cannot be reached", certain_no_effect=True)
            schedule.at(gives_up_at, lambda: answered(CallResult(call=call, failure=unreachable)))
        else:
            schedule.at(schedule.now + lookup, lambda: self._send(call, answered, gives_up_at) if is_alive() else None)

    def _send_late(self, call: PendingCall, answered: Callable[[CallResult], None]) -> None:
        """Send the request after all: the process stood still between the check of its time and the request."""
        outcome = _run(call)
        if self.schedule.strikes("answer lost", 0.3):
            answered(CallResult(call=call, failure=Unavailable("connection reset")))
        else:
            answered(CallResult(call=call, outcome=outcome))

    def _send(self, call: PendingCall, answered: Callable[[CallResult], None], gives_up_at: datetime) -> None:
        """Plan when it arrives, and when and whether the answer comes."""
        schedule = self.schedule

        def fail(reason: str, retry_after_s: float | None = None) -> Callable[[], None]:
            return lambda: answered(CallResult(call=call, failure=Unavailable(reason, retry_after_s)))

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
            schedule.at(schedule.now + self._time_to_arrive(call), lambda: _run(call))
            schedule.at(schedule.now + timedelta(seconds=1.5), fail("connection reset"))
        else:
            schedule.at(schedule.now + self._time_to_arrive(call), self._answer(call, answered))

    def _time_to_arrive(self, call: PendingCall) -> timedelta:
        """Return how long the request travels. What its client has sent arrives before the deadline."""
        left = call.deadline_at - self.schedule.now
        travels = self.schedule.within(1.0)
        return travels if call.is_query or left <= timedelta(0) else min(travels, left)

    def _answer(self, call: PendingCall, answered: Callable[[CallResult], None]) -> Callable[[], None]:
        def answer() -> None:
            outcome, schedule = _run(call), self.schedule
            schedule.at(schedule.now + schedule.within(0.5), lambda: answered(CallResult(call=call, outcome=outcome)))

        return answer


def _can_be_undone(call: PendingCall) -> bool:
    """Return whether the call is a step's that has a compensation of its own.

    A capture is undone with its authorization. A gateway refuses one that comes after that, which a person must judge.
    """
    return isinstance(call.handler, ExternalStep) and call.handler.compensation is not None and not call.is_query


def _run(call: PendingCall) -> object:
    if call.is_query:
        return call.handler.call.find(call.key)
    return call.handler.call.run(call.request, call.key)
