"""The calls about attempts that wait until Kafka has what announces their attempt, and how a call is made.

The worker and the simulation both hold calls back by these lines. It knows neither Kafka nor threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from chassis.http.downstream import NotTried, TooLate, Unavailable
from chassis.saga.answers import QueryAnswer, is_storable
from chassis.saga.unit_of_work import AwaitedAct, AwaitedPendingCall


class AnnouncedCalls:
    """The calls of one process that wait. ``begin`` starts a call; ``fail`` reports that one is not made."""

    def __init__(
        self, begin: Callable[[AwaitedPendingCall], None], fail: Callable[[AwaitedPendingCall, Unavailable], None]
    ) -> None:
        self._begin = begin
        self._fail = fail
        self._waiting: dict[str, AwaitedPendingCall] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, calls: Sequence[AwaitedPendingCall]) -> list[str]:
        """Begin the calls that wait for nothing; return the ids of the rows that Kafka must acknowledge for the others.

        Of two that wait for one row the later one is made: a cancel, after which the attempt must not be sent.
        """
        for call in calls:
            if call.after is None:
                self._begin(call)
                continue
            if (earlier := self._waiting.pop(call.after, None)) is not None:
                self._fail(earlier, NotTried("a later call about its attempt takes its place"))
            self._waiting[call.after] = call
        return [call.after for call in calls if call.after is not None]

    def acknowledge(self, row_ids: Iterable[str], *, now: datetime) -> None:
        """Begin the calls that wait for these rows. One whose time is over is not made any more."""
        for row_id in row_ids:
            if (call := self._waiting.pop(row_id, None)) is not None:
                self._begin(call)
        for row_id, call in list(self._waiting.items()):
            if now > call.begins_by:
                del self._waiting[row_id]
                self._fail(call, TooLate("Kafka had not acknowledged its attempt in time"))


def answer_to(call: AwaitedPendingCall) -> QueryAnswer:
    """Make a call about an attempt, and return the provider's answer. Raises what its adapter raises.

    An answer that PostgreSQL cannot hold is none: nothing is known then, and the ladder goes on.
    """
    calls = call.step.call
    match call.act:
        case AwaitedAct.SEND:
            answer: QueryAnswer = calls.send(call.request, call.key)
        case AwaitedAct.QUERY:
            answer = calls.answer_query(call.request, call.key, call.provider_id)
        case AwaitedAct.CANCEL:
            answer = calls.answer_cancel(call.request, call.key, call.provider_id)
    if not is_storable(answer):
        raise Unavailable(f"{call.step.name} was answered with a text that PostgreSQL cannot hold")
    return answer
