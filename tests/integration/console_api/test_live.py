"""Live timelines: one poller for all of them, the saga itself beside its entries, and nothing lost or twice."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import httpx

from chassis.wire.envelope import new_id
from saga_tracker.http.live import POLL_EVERY_S
from saga_tracker.store import timeline
from saga_tracker.store.timeline import Entry
from support.console_api import DEADLINE_S, Console, as_role, events_of
from support.tracker_peers import ORDER, message, successes
from support.waiting import until

VIEWERS = 40


class Reading:
    """One viewer of a saga's timeline, on a thread of its own."""

    def __init__(self, console: Console, saga_id: str, *, after: int | None = None, last: int | None = None) -> None:
        self.events: list[tuple[str, str | None, Any]] = []
        self.has_ended = False
        self._client = httpx.Client(timeout=DEADLINE_S, trust_env=False)
        query = {} if after is None else {"after": str(after)}
        headers = as_role("support") | ({} if last is None else {"Last-Event-ID": str(last)})
        self._request = self._client.build_request(
            "GET", f"{console.url}/v1/sagas/{saga_id}/timeline/stream", params=query, headers=headers
        )
        self._answer: httpx.Response | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            self._answer = self._client.send(self._request, stream=True)
            for each in events_of(self._answer.iter_lines()):
                self.events.append(each)
            self.has_ended = True
        except (httpx.HTTPError, RuntimeError, OSError, ValueError, AttributeError):
            pass

    def names(self) -> list[str]:
        return [name for name, _, _ in list(self.events)]

    def data(self, wanted: str) -> list[Any]:
        return [data for name, _, data in list(self.events) if name == wanted]

    def close(self) -> None:
        if self._answer is not None and not self.has_ended:
            # To close the client does not wake its thread out of a read.
            with suppress(OSError):
                self._answer.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._client.close()
        self._thread.join(DEADLINE_S)


@contextmanager
def reading(console: Console, saga_id: str, **where: int) -> Iterator[Reading]:
    viewer = Reading(console, saga_id, **where)
    try:
        yield viewer
    finally:
        viewer.close()


def test_a_viewer_gets_what_is_known_then_each_change_with_the_saga_then_the_end(console: Console) -> None:
    saga_id = new_id()
    events = successes(saga_id)
    console.tracked.record(events[0])
    with reading(console, saga_id) as viewer:
        until(lambda: "saga" in viewer.names(), "the saga is here", within_s=DEADLINE_S)
        assert viewer.data("saga")[0]["saga"]["step"] == ORDER.steps[0].name
        assert viewer.data("saga")[0]["steps"][0]["outcome"] == "waiting"
        console.tracked.record(events[1])
        until(lambda: len(viewer.data("saga")) == 2, "the saga has moved", within_s=DEADLINE_S)
        assert [each["outcome"] for each in viewer.data("saga")[1]["steps"]][:2] == ["ran", "waiting"]
        console.tracked.record(*events[2:])
        until(lambda: viewer.has_ended, "the stream ends with the saga", within_s=DEADLINE_S)
        assert viewer.data("end") == [{"state": "CONFIRMED"}]
        assert viewer.names()[-2:] == ["saga", "end"]
        assert viewer.data("saga")[-1]["saga"]["state"] == "CONFIRMED"
        entries = viewer.data("entry")
    whole = console.get(f"/sagas/{saga_id}/timeline")["entries"]
    assert entries == whole, "every entry once, in the order of recording"


def test_a_stream_of_a_saga_that_has_ended_ends_at_once(console: Console) -> None:
    saga_id = new_id()
    console.tracked.record(*successes(saga_id))
    with reading(console, saga_id) as viewer:
        until(lambda: viewer.has_ended, "it ends", within_s=DEADLINE_S)
        assert viewer.names()[-2:] == ["saga", "end"]
    assert console.state.streams.queries_count == 0, "it is not polled"


def test_who_reconnects_continues_behind_the_greater_of_the_last_id_and_the_address(console: Console) -> None:
    saga_id = new_id()
    console.tracked.record(*successes(saga_id))
    seqs = [each["seq"] for each in console.get(f"/sagas/{saga_id}/timeline")["entries"]]
    early, late = seqs[1], seqs[-3]
    for where in ({"after": early, "last": late}, {"after": late, "last": early}, {"after": late}, {"last": late}):
        with reading(console, saga_id, **where) as viewer:
            until(lambda viewer=viewer: viewer.has_ended, "it ends", within_s=DEADLINE_S)  # type: ignore[misc]
            assert [each["seq"] for each in viewer.data("entry")] == seqs[-2:], where


def test_many_viewers_of_one_order_cost_one_query_a_poll(console: Console) -> None:
    saga_id, other = new_id(), new_id()
    console.tracked.record(*successes(saga_id, up_to=0), *successes(other, up_to=0))
    streams = console.state.streams
    with ExitStack() as open_:
        viewers = [open_.enter_context(reading(console, saga_id)) for _ in range(VIEWERS)]
        viewers.append(open_.enter_context(reading(console, other)))
        until(lambda: all("saga" in each.names() for each in viewers), "all are connected", within_s=DEADLINE_S)
        began_s, before = time.monotonic(), streams.queries_count
        console.tracked.record(message(ORDER.steps[0].succeeds_with, saga_id))
        until(
            lambda: all(len(each.data("saga")) == 2 for each in viewers[:-1]),
            "all have the change",
            within_s=DEADLINE_S,
        )
        polls = streams.queries_count - before
        assert polls <= (time.monotonic() - began_s) / POLL_EVERY_S + 1, "as many as the time has polls, not viewers"
        assert len(viewers[-1].data("saga")) == 1, "the other order has not moved"
        assert all(each.data("entry") == viewers[0].data("entry") for each in viewers[:-1])
    until(lambda: streams.open_count == 0, "the slots are free again", within_s=DEADLINE_S, holds=lambda found: found)
    before = streams.queries_count
    time.sleep(3 * POLL_EVERY_S)
    assert streams.queries_count - before <= 1, "without a viewer nothing is queried"


def test_the_entry_of_a_closed_letter_comes_although_the_saga_has_not_changed(console: Console) -> None:
    """An entry that no change of the saga goes with must not wait for the next change."""
    saga_id = new_id()
    console.tracked.record(*successes(saga_id, up_to=0))
    with reading(console, saga_id) as viewer:
        until(lambda: "saga" in viewer.names(), "it is connected", within_s=DEADLINE_S)
        now = datetime.now(UTC)
        entry = Entry(
            saga_id=saga_id, message_id=new_id(), occurred_at=now, kind="act", type="CloseDeadLetter", service="x"
        )
        with console.engine.begin() as tx:
            timeline.insert(tx, [entry], now=now)
        until(lambda: viewer.data("entry")[-1]["type"] == "CloseDeadLetter", "it comes", within_s=DEADLINE_S)
        assert len(viewer.data("saga")) == 1
