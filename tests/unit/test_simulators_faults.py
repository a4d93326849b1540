"""Which call meets which fault: by seed, by match, a limited number of times, and the same after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from simulators.faults import Fault, FaultKind, Faults, FaultSubject, draw
from simulators.problems import Problem
from simulators.records import Records
from simulators.simulator import parse_fault_header

REFERENCES = [f"order-{number}" for number in range(4000)]


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with Records.open(tmp_path / "records.db") as opened:
        yield opened


def subject(reference: str, *, operation: str = "book", token: str = "", key: str = "key") -> FaultSubject:
    return FaultSubject(operation=operation, reference=reference, token=token, key=key)


def hit(faults: Faults, references: list[str]) -> dict[str, FaultKind]:
    """Return the fault's kind for every reference that meets one."""
    chosen = {reference: faults.choose(subject(reference)) for reference in references}
    return {reference: fault.kind for reference, fault in chosen.items() if fault is not None}


def test_a_rate_hits_its_share_of_the_references(records: Records) -> None:
    faults = Faults(records, seed=7)
    faults.add(Fault(operation="book", kind=FaultKind.HANG, rate=0.1))

    assert 300 < len(hit(faults, REFERENCES)) < 500


def test_the_same_references_are_hit_in_any_order(records: Records) -> None:
    faults = Faults(records, seed=7)
    faults.add(Fault(operation="book", kind=FaultKind.HANG, rate=0.1))

    assert hit(faults, REFERENCES) == hit(faults, REFERENCES[::-1])


def test_another_seed_hits_other_references() -> None:
    fault = Fault(operation="book", kind=FaultKind.HANG)

    assert draw(1, fault, "order-1") != draw(2, fault, "order-1")


def test_two_rates_on_one_operation_both_hit(records: Records) -> None:
    faults = Faults(records, seed=7)
    faults.add(Fault(operation="book", kind=FaultKind.REJECT, rate=0.1))
    faults.add(Fault(operation="book", kind=FaultKind.HANG, rate=0.1))

    kinds = list(hit(faults, REFERENCES).values())

    assert 300 < kinds.count(FaultKind.REJECT) < 500
    assert 250 < kinds.count(FaultKind.HANG) < 470  # one in ten of these was rejected before


@pytest.mark.parametrize("match", ["order-1", "tok_visa", "order-1:authorize_payment"])
def test_a_match_hits_a_reference_a_token_or_a_key(records: Records, match: str) -> None:
    faults = Faults(records, seed=7)
    faults.add(Fault(operation="authorize", kind=FaultKind.DECLINE, match=match))
    call = subject("order-1", operation="authorize", token="tok_visa", key="order-1:authorize_payment")
    other = subject("order-2", operation="authorize", token="tok_other", key="order-2:authorize_payment")

    assert faults.choose(call) is not None
    assert faults.choose(other) is None


def test_times_limits_how_often_one_reference_is_hit(records: Records) -> None:
    faults = Faults(records, seed=7)
    faults.add(Fault(operation="book", kind=FaultKind.ERROR, times=2))

    assert [faults.choose(subject("order-1")) is not None for _ in range(4)] == [True, True, False, False]
    assert faults.choose(subject("order-2")) is not None


def test_the_older_fault_wins_and_the_next_one_follows_when_it_is_used_up(records: Records) -> None:
    faults = Faults(records, seed=7)
    faults.add(Fault(operation="book", kind=FaultKind.RATE_LIMITED, times=1))
    faults.add(Fault(operation="book", kind=FaultKind.ERROR))

    kinds = [fault.kind for _ in range(2) if (fault := faults.choose(subject("order-1")))]

    assert kinds == [FaultKind.RATE_LIMITED, FaultKind.ERROR]


def test_faults_and_their_hits_outlive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    with Records.open(path) as records:
        faults = Faults(records, seed=7)
        faults.add(Fault(operation="book", kind=FaultKind.ERROR, times=2))
        faults.choose(subject("order-1"))

    with Records.open(path) as records:
        faults = Faults(records, seed=7)

        assert [faults.choose(subject("order-1")) is not None for _ in range(2)] == [True, False]


def test_cleared_faults_hit_no_call(records: Records) -> None:
    faults = Faults(records, seed=7)
    faults.add(Fault(operation="book", kind=FaultKind.ERROR, times=2))
    faults.choose(subject("order-1"))
    faults.clear()

    assert hit(faults, REFERENCES) == {}


def test_a_removed_fault_leaves_the_others_and_what_they_have_counted(records: Records) -> None:
    faults = Faults(records, seed=7)
    faults.add(Fault(operation="book", kind=FaultKind.ERROR, times=1))
    removed = faults.add(Fault(operation="book", kind=FaultKind.SLOW))
    assert hit(faults, ["order-1"]) == {"order-1": FaultKind.ERROR}

    faults.remove(removed)
    faults.remove(removed)

    assert hit(faults, ["order-1", "order-2"]) == {"order-2": FaultKind.ERROR}


def test_a_header_requests_a_fault() -> None:
    fault = parse_fault_header("capture", "hang; delay_s=2.5; effect=false")

    assert fault == Fault(operation="capture", kind=FaultKind.HANG, delay_s=2.5, effect=False)


@pytest.mark.parametrize("text", ["", "explode", "hang; delay_s=soon", "hang; delay_s=-1", "hang; colour=red"])
def test_an_invalid_header_is_refused(text: str) -> None:
    with pytest.raises(Problem, match="is not a fault"):
        parse_fault_header("capture", text)
