"""The webhooks of a gateway with accounts: late, doubled or lost where a fault says so, sent again until taken.

Faults of the operation ``webhook`` are matched by the payment's reference, the object's id or the name of the event:
``slow`` sends one late, so that a later one overtakes it; ``hang`` sends it at once and again after the delay;
``answer_lost`` keeps it, and sends it only when the lost ones are requested again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import urllib3
from urllib3.exceptions import HTTPError

from simulators.accounts import Account, Accounts
from simulators.clock import MovedClock
from simulators.face import chosen
from simulators.faults import FaultKind, FaultSubject
from simulators.gateway_records import GatewayRecords, Happening, Hook
from simulators.records import JsonObject

WEBHOOK = "webhook"
ROUND_S = 0.05
TIMEOUT_S = 5.0
SENT_MAX = 200
"""Webhooks of one round; the next continues."""
SENDERS = 16
SENDS_MAX = 12
"""With waits that double from one second: an hour."""
HAPPENINGS_MAX = 500

Sign = Callable[[Account, JsonObject, float], tuple[bytes, dict[str, str]]]
"""Returns the bytes of a webhook's body and its headers, signed at a time."""
Happen = Callable[[GatewayRecords, Happening, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that an account gets a webhook about: what faults match, and the body."""

    account: str
    name: str
    reference: str
    object_id: str
    body: JsonObject


def tell(records: GatewayRecords, event: Event, *, now: float, seed: int) -> None:
    """Store the webhooks of an event: one, or as many as a fault makes of it. It runs inside a transaction."""
    subject = FaultSubject(operation=WEBHOOK, reference=event.reference, token=event.object_id, key=event.name)
    fault = chosen(records, subject, seed)
    if fault is not None and fault.kind is FaultKind.ANSWER_LOST:
        records.add_hook(event.account, event.name, event.reference, event.body, now, state="lost")
        return
    late_s = fault.wait_s if fault is not None and fault.kind is FaultKind.SLOW else 0.0
    records.add_hook(event.account, event.name, event.reference, event.body, now + late_s)
    if fault is not None and fault.kind is FaultKind.HANG:
        records.add_hook(event.account, event.name, event.reference, event.body, now + fault.wait_s)


def happen(records: GatewayRecords, handlers: Mapping[str, Happen], *, now: float) -> int:
    """Let everything happen whose time has come, each in a transaction, and return how much it was."""
    due = records.due_happenings(now, HAPPENINGS_MAX)
    for each in due:
        with records.transaction():
            if records.has_happened(each.id):
                handlers[each.kind](records, each, now)
    return len(due)


def deliver(
    records: GatewayRecords, accounts: Accounts, sign: Sign, pool: ThreadPoolExecutor, clock: MovedClock
) -> int:
    """Send the webhooks that are due, all at once and outside of a transaction, and return how many."""
    due = records.due_hooks(clock.now(), SENT_MAX)
    if not due:
        return 0
    statuses = list(pool.map(lambda hook: _send(hook, accounts, sign, clock.real()), due))
    now = clock.now()
    with records.transaction():
        for hook, status in zip(due, statuses, strict=True):
            _store(records, hook, status, now)
    return len(due)


def _send(hook: Hook, accounts: Accounts, sign: Sign, real_now: float) -> int | None:
    """Send a webhook once and return the status, 0 without an answer; None for an account without an endpoint."""
    account = accounts.named(hook.account)
    if account is None or account.webhook_url is None:
        return None
    body, headers = sign(account, hook.body, real_now)
    headers["Content-Type"] = "application/json"
    try:
        response = HTTP.request("POST", account.webhook_url, body=body, headers=headers, timeout=TIMEOUT_S)
    except HTTPError:
        return 0
    return response.status


HTTP = urllib3.PoolManager(maxsize=SENDERS, retries=False)


def _store(records: GatewayRecords, hook: Hook, status: int | None, now: float) -> None:
    sends = hook.sends + 1
    if status is None:
        records.update_hook(hook.id, "unsent", 0, now)
    elif 200 <= status < 300:
        records.update_hook(hook.id, "delivered", sends, now)
    elif sends >= SENDS_MAX:
        records.update_hook(hook.id, "given_up", sends, now)
    else:
        records.update_hook(hook.id, "due", sends, now + 2.0 ** (sends - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Meanwhile:
    """What a gateway does without a request, in a thread of its own with a connection of its own."""

    accounts: Accounts
    clock: MovedClock
    sign: Sign
    handlers: Mapping[str, Happen]

    def run(self, records: GatewayRecords, stopping: threading.Event) -> None:
        """Let things happen and send webhooks until the event is set."""
        with ThreadPoolExecutor(SENDERS) as pool:
            while not stopping.wait(ROUND_S):
                busy = 1
                while busy and not stopping.is_set():
                    busy = happen(records, self.handlers, now=self.clock.now())
                    busy += deliver(records, self.accounts, self.sign, pool, self.clock)
