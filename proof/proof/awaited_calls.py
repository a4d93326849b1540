"""Calls about attempts whose outcome comes later: when they begin and arrive, and whether an answer comes.

A request may be lost, or arrive hours after its client has stopped waiting. Nothing here depends on a deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from chassis.http.downstream import TooLate, Unavailable
from chassis.saga.announced_calls import answer_to
from chassis.saga.unit_of_work import AwaitedAct, AwaitedPendingCall, AwaitedResult
from proof.calls import AWAY_S, CLIENT_TIMEOUT_S, START_DELAY_S
from proof.schedule import BEGINNING, Schedule

UNDER_WAY_S = 2 * 3_600.0
"""How long a request may be under way, much longer than its client waits."""


@dataclass(slots=True, kw_only=True)
class AwaitedCallTransport:
    """The way to a provider whose outcomes come later, who may be away until some time."""

    schedule: Schedule
    away_until: datetime = BEGINNING

    def begin(
        self, call: AwaitedPendingCall, answered: Callable[[AwaitedResult], None], is_alive: Callable[[], bool]
    ) -> None:
        """Plan when a call begins; of a process that is not alive any more it does not."""
        schedule = self.schedule
        delay = schedule.within(START_DELAY_S if schedule.strikes("no thread free", 0.1) else 0.1)
        schedule.at(schedule.now + delay, lambda: self._send(call, answered) if is_alive() else None)

    def _send(self, call: AwaitedPendingCall, answered: Callable[[AwaitedResult], None]) -> None:
        """Plan when the request arrives, and when and whether the answer comes."""
        schedule = self.schedule
        if schedule.now > call.begins_by and call.act is AwaitedAct.SEND:
            answered(AwaitedResult(call=call, failure=TooLate("no free thread in time")))
            return
        ends_at = min(schedule.now + timedelta(seconds=CLIENT_TIMEOUT_S), max(schedule.now, call.sends_until))

        def fail_at(when: datetime, reason: str) -> None:
            schedule.at(when, lambda: answered(AwaitedResult(call=call, failure=Unavailable(reason))))

        if schedule.strikes("a provider is away", 0.03):
            self.away_until = schedule.now + schedule.within(AWAY_S)
        if (schedule.are_faults_on and schedule.now < self.away_until) or schedule.strikes("5xx", 0.1):
            fail_at(schedule.now + schedule.within(0.5), "503")
        elif schedule.strikes("a request is lost", 0.1):
            fail_at(ends_at, "no answer in time")
        elif schedule.strikes("a request is under way for long", 0.1):
            schedule.at(schedule.now + schedule.within(UNDER_WAY_S), lambda: _result_of(call))
            fail_at(ends_at, "no answer in time")
        elif schedule.strikes("answer lost", 0.1):
            schedule.at(schedule.now + schedule.within(1.0), lambda: _result_of(call))
            fail_at(ends_at, "connection reset")
        else:
            schedule.at(schedule.now + schedule.within(1.0), lambda: self._answer(call, answered))

    def _answer(self, call: AwaitedPendingCall, answered: Callable[[AwaitedResult], None]) -> None:
        """Let the request arrive. Its answer may come after a callback about the same attempt."""
        result, schedule = _result_of(call), self.schedule
        schedule.at(schedule.now + schedule.within(1.0), lambda: answered(result))


def _result_of(call: AwaitedPendingCall) -> AwaitedResult:
    """Return what a call leads to, as the worker's threads do: an adapter may get no answer from its provider."""
    try:
        return AwaitedResult(call=call, answer=answer_to(call))
    except Unavailable as failure:
        return AwaitedResult(call=call, failure=failure)
    except AssertionError:
        raise  # what a simulated provider must never receive
    except Exception as error:  # nothing is known then, and the ladder goes on
        return AwaitedResult(call=call, failure=Unavailable(f"{type(error).__name__} in a call", detail=str(error)))
