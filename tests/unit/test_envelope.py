"""Ids and headers: what a repeated decision, a trace and a consumer of CloudEvents rely on."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.saga import outbox
from chassis.saga.dead_letters import DeadLetter, dead_letter_row, read
from chassis.saga.deferred import RawMessage
from chassis.wire.envelope import (
    child_traceparent,
    derived_id,
    envelope,
    header,
    headers,
    new_id,
    new_traceparent,
    trace_context,
)
from messages.ledger import LedgerPosted
from support.builders import a

ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
TRACEPARENT = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-01")
header_pairs = st.lists(st.tuples(st.text(), st.binary()), max_size=5).map(tuple)


@given(st.lists(st.text() | st.integers(), min_size=1, max_size=4))
def test_a_derived_id_is_a_ulid_and_always_the_same(parts: list[str | int]) -> None:
    assert ULID.fullmatch(derived_id(*parts))
    assert derived_id(*parts) == derived_id(*parts)


def test_the_parts_of_a_derived_id_are_kept_apart() -> None:
    assert len({derived_id("a", "bc"), derived_id("ab", "c"), derived_id("abc")}) == 3


def test_new_ids_sort_by_time() -> None:
    assert ULID.fullmatch(new_id())
    assert new_id()[:8] <= new_id()[:8]


def test_a_reply_has_the_id_of_its_cause_and_stays_in_its_saga() -> None:
    cause = a(LedgerPosted)
    answer = envelope(cause, message_id="m", at=cause.occurred_at)
    assert (answer["causation_id"], answer["saga_id"]) == (cause.message_id, cause.saga_id)


def test_headers_are_cloudevents_in_binary_mode() -> None:
    message = a(LedgerPosted)
    found = dict(headers(message, source="ledger", traceparent=new_traceparent()))
    assert found["ce_specversion"] == b"1.0"
    assert found["ce_id"].decode() == message.message_id
    assert found["ce_type"].decode() == LedgerPosted.FULL_NAME
    assert found["ce_source"] == b"/baraza/ledger"
    assert found["content-type"] == b"application/avro"


@given(st.none() | st.binary())
def test_a_trace_is_continued_or_a_new_one_begins(parent: bytes | None) -> None:
    assert TRACEPARENT.fullmatch(new_traceparent())
    child = child_traceparent(new_traceparent())
    assert TRACEPARENT.fullmatch(child)
    assert len(child_traceparent(parent).split(b"-")) == 4


@pytest.mark.parametrize("bad", [b"0" * 900_000, b"0", b"\xff" * 32, b"00-" + b"A" * 32])
def test_a_trace_context_of_another_form_travels_no_further(bad: bytes) -> None:
    for parent in (bad, b"00-%s-%s-01" % (bad, b"b" * 16), b"%s-%s-%s-01" % (bad, b"a" * 32, b"b" * 16)):
        assert TRACEPARENT.fullmatch(child_traceparent(parent))
        assert trace_context((("traceparent", parent),)) is None


def test_a_child_keeps_the_trace_and_has_a_span_of_its_own() -> None:
    parent = new_traceparent()
    child = child_traceparent(parent)
    assert child.split(b"-")[1] == parent.split(b"-")[1]
    assert child.split(b"-")[2] != parent.split(b"-")[2]


@given(header_pairs)
def test_headers_survive_the_outbox_byte_by_byte(pairs: tuple[tuple[str, bytes], ...]) -> None:
    assert outbox.headers_from_text(outbox.headers_to_text(pairs)) == pairs


def test_the_last_of_several_headers_counts() -> None:
    assert header((("a", b"1"), ("a", b"2")), "a") == b"2"
    assert header((), "a") is None


@given(st.none() | st.binary(), st.none() | st.binary(), header_pairs, st.text(max_size=2_000))
def test_a_dead_letter_keeps_bytes_and_headers_and_has_the_reason(
    key: bytes | None, value: bytes | None, pairs: tuple[tuple[str, bytes], ...], reason: str
) -> None:
    raw = RawMessage(topic="payment.events", partition=3, key=key, value=value, headers=pairs)
    letter = DeadLetter(service="inventory", step="reserve_inventory", reason=reason, attempts=3)
    row = dead_letter_row(raw, letter, row_id="id")
    assert (row.topic, row.partition, row.payload) == ("reserve_inventory.dlq", 3, value or b"")
    assert row.headers[: len(pairs)] == pairs
    assert bytes.fromhex((header(row.headers, "baraza_key") or b"").decode()) == (key or b"")
    assert "\x00" not in row.saga_id
    letter_read = read(row.headers)
    assert (letter_read.service, letter_read.step, letter_read.attempts) == ("inventory", "reserve_inventory", 3)
