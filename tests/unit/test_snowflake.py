"""Ids of payments: unique whatever the clock does, and made of the fields that they name."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merchant.snowflake import (
    EPOCH,
    ID_MAX,
    MS_MAX,
    SEQUENCES,
    SLOTS,
    BeyondBound,
    IdFields,
    Sequencer,
    TimeOutOfRange,
    compose,
    decompose,
    ms_of,
)

fields = st.builds(
    IdFields, ms=st.integers(0, MS_MAX), slot=st.integers(0, SLOTS - 1), sequence=st.integers(0, SEQUENCES - 1)
)


@given(fields)
def test_an_id_is_made_of_its_fields_and_fits_into_63_bits(made: IdFields) -> None:
    found = compose(made)
    assert decompose(found) == made
    assert 0 <= found <= ID_MAX


@given(fields, fields)
def test_ids_sort_by_time(one: IdFields, other: IdFields) -> None:
    assert (compose(one) < compose(other)) == (
        (one.ms, one.slot, one.sequence) < (other.ms, other.slot, other.sequence)
    )


def test_the_largest_id_is_the_largest_of_63_bits() -> None:
    assert compose(IdFields(ms=MS_MAX, slot=SLOTS - 1, sequence=SEQUENCES - 1)) == ID_MAX


@pytest.mark.parametrize("ms", [-1, MS_MAX + 1])
def test_a_time_that_no_id_holds_is_refused(ms: int) -> None:
    with pytest.raises(TimeOutOfRange, match="check the clock"):
        compose(IdFields(ms=ms, slot=0, sequence=0))


def test_milliseconds_count_from_the_epoch() -> None:
    assert ms_of(EPOCH.timestamp()) == 0
    assert ms_of(datetime(2026, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC).timestamp()) == 1_500


@dataclass(slots=True)
class Slot:
    """One slot over its leases, as the table keeps it: each lease begins after the bound of the one before."""

    last_ms: int = 0
    issued: list[int] = field(default_factory=list)

    def lease(self, now_ms: int, span: int) -> Sequencer:
        used_ms = max(self.last_ms, now_ms)
        self.last_ms = used_ms + span
        return Sequencer(slot=5, used_ms=used_ms, bound_ms=self.last_ms)


steps = st.lists(
    st.tuples(
        st.sampled_from(["issue", "crash", "renew", "release"]),
        st.integers(-5_000, 5_000),
        st.integers(1, 10_000),
    ),
    min_size=1,
    max_size=30,
)


@given(steps, st.integers(10_000, 10**9))
def test_no_id_comes_twice_however_the_clock_goes_and_whenever_a_process_ends(
    acts: list[tuple[str, int, int]], start_ms: int
) -> None:
    slot, now_ms, span = Slot(), start_ms, 3_000
    sequencer = slot.lease(now_ms, span)
    for act, moved, count in acts:
        now_ms = max(0, now_ms + moved)
        if act == "crash":
            sequencer = slot.lease(now_ms, span)
        elif act == "release":
            slot.last_ms = sequencer.used_ms
            sequencer = slot.lease(now_ms, span)
        elif act == "renew":
            slot.last_ms = max(slot.last_ms, max(now_ms, sequencer.used_ms) + span)
            sequencer.bound_ms = slot.last_ms
        else:
            for _ in range(count):
                try:
                    slot.issued.append(sequencer.next(now_ms))
                except BeyondBound:
                    break
    assert len(slot.issued) == len(set(slot.issued))
    assert slot.issued == sorted(slot.issued)


def test_a_full_millisecond_goes_on_in_the_next_one() -> None:
    sequencer = Sequencer(slot=1, used_ms=0, bound_ms=10)
    made = [decompose(sequencer.next(5)) for _ in range(SEQUENCES + 1)]
    assert (made[-2].ms, made[-2].sequence) == (5, SEQUENCES - 1)
    assert (made[-1].ms, made[-1].sequence) == (6, 0)


def test_beyond_the_bound_nothing_is_issued() -> None:
    sequencer = Sequencer(slot=1, used_ms=0, bound_ms=10)
    sequencer.next(10)
    with pytest.raises(BeyondBound, match="beyond the bound 10"):
        sequencer.next(11)
    assert decompose(sequencer.next(3)).ms == 10, "what was refused has used nothing"
