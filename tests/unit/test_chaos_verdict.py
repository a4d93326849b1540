"""The verdict of a chaos run over orders and returns, from what the databases have."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import cast

from baraza.audit.report import Report
from baraza.audit.sources import TRACKER, Row
from baraza.chaos.load import Load
from baraza.chaos.session import show
from baraza.chaos.target import ChaosTarget
from baraza.chaos.verdict import Verdict, judge
from baraza.storefront.replay import Intake

SINCE = datetime(2026, 1, 2, tzinfo=UTC)


class Target:
    """Databases with these sagas (id, type, state, since when it waits) and these next queries (id, time)."""

    def __init__(self, sagas: Iterable[Row], queries: Iterable[Row]) -> None:
        self._sagas = list(sagas)
        self._queries = list(queries)
        self.messages = SimpleNamespace(unreported=list, poisons=[])
        self.violations: list[str] = []

    def query(self, query: str, *_arguments: object, service: str = TRACKER) -> list[Row]:
        if service == "shipping":
            return self._queries
        if "saga_type, state" in query:
            return [row[:3] for row in self._sagas]
        if "awaits_since" in query:
            return [(saga_id, "collect_parcel", since) for saga_id, _, _, since in self._sagas if since is not None]
        return []


def judged(sagas: Iterable[Row], queries: Iterable[Row] = (), *, returns: Iterable[str] = ()) -> Verdict:
    load = SimpleNamespace(
        intake=Intake(),
        accepted={"key": "order-1"},
        cancellations=0,
        returns=SimpleNamespace(accepted={f"key of {each}": each for each in returns}, cancellations=2),
    )
    report = Report(findings=(), moving={}, states={})
    return judge(cast(ChaosTarget, Target(sagas, queries)), cast(Load, load), [], report)


ORDER = ("order-1", "order", "CONFIRMED", None)
ENDED = ("return-1", "return_order", "CONFIRMED", None)
WAITING = ("return-2", "return_order", "PENDING", SINCE)


def test_orders_and_returns_that_ended_are_counted_apart() -> None:
    verdict = judged([ORDER, ENDED], returns=["return-1"])
    assert not verdict.violations
    assert (verdict.states, verdict.return_states) == ({"CONFIRMED": 1}, {"CONFIRMED": 1})
    assert (verdict.returns, verdict.return_cancellations, verdict.lost) == (1, 2, 0)


def test_a_return_that_the_tracker_does_not_know_is_lost() -> None:
    verdict = judged([ORDER], returns=["return-1"])
    assert verdict.lost == 1
    assert verdict.violations == ["return return-1 was accepted and is unknown to the tracker"]


def test_a_return_that_waits_for_its_next_query_is_named_and_is_no_violation() -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    verdict = judged([ORDER, WAITING], [("return-2", later)], returns=["return-2"])
    assert not verdict.violations
    assert [each.saga_id for each in verdict.waiting] == ["return-2"]
    written: list[str] = []
    show(verdict, written.append)
    (line,) = [line for line in written if line.startswith("WAITS")]
    assert line.startswith("WAITS  return-2 waits for the outcome of collect_parcel since ")
    assert verdict.to_json()["waiting"][0]["query_at"] == later


def test_a_return_that_nothing_queries_for_is_a_violation() -> None:
    for queries in ([], [("return-2", SINCE)]):
        verdict = judged([ORDER, WAITING], queries, returns=["return-2"])
        (violation,) = verdict.violations
        assert violation.startswith("saga return-2 waits for the outcome of collect_parcel")
        assert not verdict.waiting
