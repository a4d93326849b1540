"""Callbacks: unsigned, sent once and never again; late, doubled or lost where a fault says so.

A callback is marked before it is sent, so that a provider that dies meanwhile never sends it a second time.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import urllib3
from urllib3.exceptions import HTTPError

from simulators.clock import MovedClock
from simulators.gateway_records import Happening
from simulators.mobile.faults import CALLBACK, Fault, Kind, Subject, first, met
from simulators.mobile.records import Callback, MobileRecords
from simulators.records import JsonObject

ROUND_S = 0.03
TIMEOUT_S = 8.0
"""How long a listener has to answer; at a validation the rule of its registration decides after that."""
SENT_MAX = 200
"""Callbacks of one round; the next continues."""
SENDERS = 16
HAPPENINGS_MAX = 500
EXACT = "@exact:"
"""Begins a text that a body has as a number written exactly so: a decimal keeps its zeros."""
GARBLED = {"empty": "", "array": "[]", "html": "<html><body>Bad Gateway</body></html>", "other": '{"Envelope": {}}'}

Shape = Callable[[tuple[Fault, ...]], JsonObject]
"""Returns the body of a callback with these faults of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A callback: where it goes, what it is about, and what faults can match."""

    url: str
    about: str
    subject: Subject
    shape: Shape
    method: str = "POST"
    own: tuple[Fault, ...] = ()
    following: str = ""


def tell(records: MobileRecords, told: Told, *, now: float, seed: int) -> None:
    """Store a callback: none, one, or as many as faults make of it. It runs inside a transaction."""
    if not told.url:
        return
    faults = (*told.own, *met(records, told.subject, CALLBACK, now=now, seed=seed))
    faults = tuple(each for each in faults if each.kind in CALLBACK)
    late, copies = first(faults, Kind.LATE), first(faults, Kind.COPIES)
    body = _written(told.shape(faults), first(faults, Kind.GARBLED))
    due_at = now if late is None else now + late.delay_s
    state = "due" if first(faults, Kind.LOST) is None else "lost"
    for number in range(1 if copies is None else copies.count):
        records.add_callback(
            told.subject.operation, told.about, told.method, told.url, body, due_at, state=state,
            following=told.following if number == 0 else "",
        )  # fmt: skip


def _written(body: JsonObject, garbled: Fault | None) -> str:
    if garbled is not None:
        return GARBLED.get(garbled.code or "other", GARBLED["other"])
    head, *rest = json.dumps(body).split(f'"{EXACT}')
    return head + "".join(part.replace('"', "", 1) for part in rest)


Happen = Callable[[MobileRecords, Happening, float], None]


def happen(records: MobileRecords, handlers: Mapping[str, Happen], *, now: float) -> int:
    """Let everything happen whose time has come, each in a transaction, and return how much it was."""
    due = records.due_happenings(now, HAPPENINGS_MAX)
    for each in due:
        with records.transaction():
            if records.has_happened(each.id):
                handlers[each.kind](records, each, now)
    return len(due)


def deliver(records: MobileRecords, pool: ThreadPoolExecutor, clock: MovedClock) -> int:
    """Send the callbacks that are due, all at once and outside of a transaction, and return how many."""
    now = clock.now()
    with records.transaction():
        due = records.take_callbacks(now, SENT_MAX)
    if not due:
        return 0
    answers = list(pool.map(_send, due))
    with records.transaction():
        for callback, (status, text) in zip(due, answers, strict=True):
            records.answered_callback(callback.id, status)
            if callback.following:
                records.schedule(callback.following, callback.about, clock.now(), status=status, text=text)
    return len(due)


def _send(callback: Callback) -> tuple[int, str]:
    """Send a callback once, and return the status of the answer (0 without one) and its text."""
    headers = {"Content-Type": "application/json"}
    try:
        response = HTTP.request(callback.method, callback.url, body=callback.body.encode(), headers=headers)
    except HTTPError:
        return 0, ""
    return response.status, response.data.decode(errors="replace")


HTTP = urllib3.PoolManager(maxsize=SENDERS, retries=False, timeout=TIMEOUT_S)


def run_happenings(
    records: MobileRecords, handlers: Mapping[str, Happen], clock: MovedClock, stopping: threading.Event
) -> None:
    """Let things happen until the event is set."""
    while not stopping.wait(ROUND_S):
        while happen(records, handlers, now=clock.now()) and not stopping.is_set():
            pass


def run_callbacks(records: MobileRecords, clock: MovedClock, stopping: threading.Event) -> None:
    """Send callbacks until the event is set; a listener that hangs delays callbacks and nothing else."""
    with ThreadPoolExecutor(SENDERS) as pool:
        while not stopping.wait(ROUND_S):
            while deliver(records, pool, clock) and not stopping.is_set():
                pass
