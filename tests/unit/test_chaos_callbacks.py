"""The faults of lost webhooks and late answers, and the sagas that wait because of them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from baraza.audit.invariants import INVARIANTS
from baraza.chaos import callbacks
from baraza.chaos.faults import KINDS
from baraza.chaos.schedule import LONG, Kind, faults
from baraza.chaos.verdict import DOUBLED
from baraza.chaos.waiting import OVERDUE_AFTER, joined, wait_for_outcomes
from baraza.system.client import Api, Unreachable
from simulators.faults import Fault
from simulators.testing import SimulatorProcess
from stack.providers import ACCOUNT_HOLDERS
from support.merchant_gateways import gateway

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BOOK = {"operation": "book", "kind": "error"}


class CourierApi:
    """The faults of a simulator; it adds its first ``unanswered`` ones, but gives no answer."""

    def __init__(self, *, unanswered: int = 0) -> None:
        self.faults: dict[int, dict[str, Any]] = {1: BOOK}
        self._unanswered = unanswered

    def call(self, method: str, path: str, *, body: Any = None) -> Any:
        answer: dict[str, Any] = {}
        match method:
            case "POST":
                self.faults[max(self.faults) + 1] = body
            case "GET":
                answer = {"faults": [{"id": number, **rule} for number, rule in self.faults.items()]}
            case "DELETE":
                self.faults.pop(int(path.removeprefix("/admin/faults/")), None)
        if method == "POST" and self._unanswered > 0:
            self._unanswered -= 1
            raise Unreachable("no answer")
        return answer


def drawn(seed: int) -> list[callbacks.Rule]:
    return callbacks.rules_of(random.Random(seed))


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks._call.retry, "wait", lambda _state: 0)


def test_every_kind_is_injected_and_a_round_has_each_once() -> None:
    assert set(KINDS) == set(Kind)
    scheduled = faults(7, tuple(Kind), ("a", "b", "c"), outage_s=200.0)
    first = [next(scheduled) for _ in Kind]
    assert {fault.kind for fault in first} == set(Kind)
    assert {fault.kind: fault.lasts_s for fault in first if fault.kind in LONG} == dict.fromkeys(LONG, 200.0)


def test_webhooks_are_lost_and_in_some_faults_some_come_twice_or_late() -> None:
    found = [drawn(seed) for seed in range(100)]
    for rules in found:
        assert {Fault.model_validate(dict(rule)).operation for rule in rules} == {"webhook"}
        assert rules[-1] == {"operation": "webhook", "kind": "answer_lost"}
    assert {tuple(rule["kind"] for rule in rules) for rules in found} == {
        ("answer_lost",),
        ("hang", "slow", "answer_lost"),
    }


@pytest.mark.parametrize("unanswered", [0, 1])
def test_the_faults_of_webhooks_are_removed_and_no_others(unanswered: int) -> None:
    courier = CourierApi(unanswered=unanswered)
    lost = {"operation": "webhook", "kind": "answer_lost"}
    with callbacks.injected(courier, [lost]):
        assert list(courier.faults.values()) == [BOOK, *[lost] * (1 + unanswered)]
    assert courier.faults == {1: BOOK}


def test_the_courier_takes_these_faults(courier: SimulatorProcess) -> None:
    rules = next(rules for rules in map(drawn, range(100)) if len(rules) > 1)
    with Api("courier", courier.url, None) as api:
        added = api.call("POST", "/admin/faults", body=BOOK)["id"]
        with callbacks.injected(api, rules):
            assert len(api.get("/admin/faults")["faults"]) == 1 + len(rules)
        assert [each["id"] for each in api.get("/admin/faults")["faults"]] == [added]


@pytest.mark.parametrize("name", ACCOUNT_HOLDERS)
def test_gateways_of_payments_take_late_answers_and_lost_webhooks(name: str, tmp_path: Path) -> None:
    with gateway(name, tmp_path) as provider, Api(name, provider.url, None) as api:
        rules = callbacks.late_rules_of(name, hanging_s=9.0, slow_s=2.0)
        with callbacks.injected(api, rules), callbacks.injected(api, drawn(0)):
            assert len(api.get("/admin/faults")["faults"]) == len(rules) + len(drawn(0))
        assert api.get("/admin/faults")["faults"] == []
        assert api.call("POST", "/admin/webhooks/resend") == {"resent": 0}


def test_they_are_removed_when_the_run_is_stopped_meanwhile() -> None:
    courier = CourierApi()
    with pytest.raises(KeyboardInterrupt), callbacks.injected(courier, [{"operation": "webhook", "kind": "slow"}]):
        raise KeyboardInterrupt
    assert courier.faults == {1: BOOK}


def test_a_saga_that_waits_says_for_what_since_when_and_when_its_provider_is_queried_next() -> None:
    later = NOW + timedelta(minutes=5)
    awaiting = [("a", "collect_parcel", NOW, "return_order"), ("b", "capture_or_void", NOW, "capture_later")]
    first, second = joined(awaiting, [("a", later), ("c", NOW)])
    assert first.what == (
        "(return_order) waits for the outcome of collect_parcel since 2026-03-01T12:00:00+00:00; "
        "the next query is due at 2026-03-01T12:05:00+00:00"
    )
    assert not first.is_stuck(later + OVERDUE_AFTER)
    assert first.is_stuck(later + OVERDUE_AFTER + timedelta(seconds=1))
    assert second.what.startswith("(capture_later) waits for the outcome of capture_or_void since ")
    assert second.what.endswith("no query is due")
    assert second.is_stuck(NOW)


def test_the_next_query_is_the_earliest_of_all_services() -> None:
    (found,) = joined([("a", "step", NOW, "order")], [("a", NOW + timedelta(hours=1))], [("a", NOW)])
    assert found.query_at == NOW


def test_the_end_of_a_run_waits_for_outcomes_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baraza.chaos.waiting.POLL_S", 0.0)
    waiting = joined([("a", "step", NOW, "order")])
    left = [waiting, waiting, []]
    counted: list[int] = []
    assert wait_for_outcomes(lambda: left.pop(0), 60.0, counted.append) == []
    assert counted == [1, 1]
    assert wait_for_outcomes(lambda: waiting, -1.0, counted.append) == waiting


def test_doubled_effects_are_found_by_invariants_of_the_audit() -> None:
    assert {invariant.name for invariant in INVARIANTS} >= DOUBLED
