"""The benchmark of a SACCO: receipts, withdrawals and callbacks, then dividends at a provider of few calls a second."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from baraza.audit.sources import TRACKER, connect, sources_of
from baraza.bench import members, questions
from baraza.bench.follower import SaccoFollower
from baraza.bench.load import Entry
from baraza.bench.measurement import Measured
from baraza.bench.members import (
    IN_DOUBT,
    SAVERS,
    SHAREHOLDERS,
    UNPAID,
    CallbackClient,
    Member,
    Payers,
    WithdrawalClient,
)
from baraza.bench.orders import Order
from baraza.bench.session import RAMP_S, Session, session
from baraza.percentiles import percentile
from baraza.storefront.sacco import dividends
from baraza.storefront.sacco.people import People, people
from baraza.system.client import Tokens
from baraza.terminal import Refusal, notify
from stack.services import CALLS_PER_S, EVERY

if TYPE_CHECKING:
    from baraza.bench.modes import Run

CONNECTIONS: Final = 32
MEMBERS, REFUSED_MEMBERS, MEMBERS_BESIDE = 2_000, 200, 500
REFUSED_EVERY: Final = 10
CALLBACKS_PER_MIN: Final = 10_000
UNBOUNDED: Final = "100000"
PROVIDER_PER_S: Final = 40
"""The calls a second of the provider that bounds a dividend run."""
MEMBERS_SHARE: Final = 0.3
"""What of them is for members alone, by default."""
BESIDE_PER_S: Final = PROVIDER_PER_S * 0.2
"""Withdrawals beside the run: fewer than what is for members alone."""
LINES_OF_A_MEMBER: Final = 2
RUN_BEGINS_WITHIN_S: Final = 120.0
RUN_SPARE_S: Final = 10.0
WRITTEN_WITHIN_S: Final = 10.0
POLL_S: Final = 0.1

CALLER: Final = {"BARAZA_REQUESTS_PER_S_TELLER": UNBOUNDED}
ENVIRONMENT: Final = {"members": CALLER, EVERY: {CALLS_PER_S: UNBOUNDED}}
"""A teller's limit, and that of a short code at the provider, would be what is measured."""
LIMITED: Final = {"members": CALLER, EVERY: {CALLS_PER_S: str(PROVIDER_PER_S)}}

REFUSED: Final = """
    SELECT saga_id, max(at) FROM money_entries JOIN own_ids USING (own_id)
    WHERE kind = 'refusal' AND saga_id = ANY(%s) GROUP BY saga_id
"""
RELEASED: Final = """
    SELECT saga_id, max(recorded_at) FROM timeline WHERE type = 'HoldReleased' AND saga_id = ANY(%s) GROUP BY saga_id
"""


def sacco(run: Run) -> dict[str, Any]:
    """Receipts, callbacks, withdrawals, dividends at a slow provider, and open questions; every provider in process."""
    raised = [f"{name}={value}" for each in ENVIRONMENT.values() for name, value in each.items()]
    notify(f"Limits that would be measured instead are raised: {', '.join(raised)}")
    with _opened(run, ENVIRONMENT) as (running, staff, payers):
        savers, unpaid = members.members(SAVERS, MEMBERS), members.members(UNPAID, REFUSED_MEMBERS)
        _join(running, staff, payers, [*savers, *unpaid])
        found = _receipts(run, running, payers, savers) | _withdrawals(run, running, savers, unpaid)
    with _opened(run, LIMITED) as (running, staff, payers):
        savers = members.members(SAVERS, MEMBERS_BESIDE)
        _join(running, staff, payers, savers)
        found |= _dividends(run, running, staff, savers)
    return found | _questions(run)


@contextmanager
def _opened(run: Run, environment: Any) -> Iterator[tuple[Session, People, Payers]]:
    """Yield a stack with the people who work on it. What was paid in is in the provider's books before the audit."""
    with run.stack(follower=SaccoFollower, environment=environment) as running:
        with people(running.stack) as staff:
            payers = Payers()
            yield running, staff, payers
        payers.write_books(running.stack)


def _questions(run: Run) -> dict[str, Any]:
    """Measure what open questions cost, on a stack of their own."""
    with session(replace(run.settings, follower=SaccoFollower, environment={})) as running:
        in_doubt, payers = members.members(IN_DOUBT, 1), Payers()
        with people(running.stack) as staff:
            _join(running, staff, payers, in_doubt)
        return questions.measure(run, running, _requests(running), next(members.withdrawals(in_doubt)))


def _join(running: Session, staff: People, payers: Payers, new: Sequence[Member]) -> None:
    """Register members, and let each pay something into savings. Raises Stalled, or Refusal."""
    members.register(staff, new)
    payments = list(islice(payers.payments(new, (members.SAVED,)), len(new)))
    entry = _callbacks(running, payers)

    def send(part: Sequence[Order]) -> None:
        with closing(entry.connect()) as client:
            for order in part:
                (saga_id,) = client.submit([order])
                running.follower.accepted([(saga_id or "", time.monotonic())])

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        for _ in threads.map(send, [payments[number::CONNECTIONS] for number in range(CONNECTIONS)]):
            pass
    running.drain()
    notify(f"{len(new)} members have savings.")


def _callbacks(running: Session, payers: Payers) -> Entry:
    url, path = running.stack.url(members.MONEY), members.confirmation_path(running.stack)
    return Entry(
        connect=lambda: CallbackClient(url, path, running.statuses, payers.sent),
        connections=CONNECTIONS,
        batch_size_max=1,
    )


def _requests(running: Session) -> Entry:
    url, tokens = running.stack.url("members"), Tokens(running.stack.url("issuer"))
    return Entry(
        connect=lambda: WithdrawalClient(url, tokens, running.statuses), connections=CONNECTIONS, batch_size_max=1
    )


def _receipts(run: Run, running: Session, payers: Payers, savers: Sequence[Member]) -> dict[str, Any]:
    """Measure receipts at full load, and how soon callbacks are answered that come at a fixed rate."""
    running.entry = _callbacks(running, payers)
    payments = payers.payments(savers)
    full = running.saturated("receipts", payments, run.seconds, ramp_s=run.warm_up_s)
    paced = running.paced("callbacks", payments, CALLBACKS_PER_MIN / 60, run.seconds)
    answers_ms = running.answer_latencies_ms(paced)
    return {
        "receipts_per_s": round(full.per_s, 1),
        "cpu_ms_per_receipt": round(full.cpu_ms_per_saga, 3),
        "callbacks_per_min": CALLBACKS_PER_MIN,
        "p50_ms_callback_answered": percentile(answers_ms, 0.50),
        "p99_ms_callback_answered": percentile(answers_ms, 0.99),
        "p99_ms_callback_to_allocated": paced.quantile_ms(0.99),
    }


def _withdrawals(run: Run, running: Session, savers: Sequence[Member], unpaid: Sequence[Member]) -> dict[str, Any]:
    """Measure withdrawals at full load, at half of it, and with some that the provider refuses to pay."""
    running.entry = _requests(running)
    requested = members.withdrawals(savers)
    full = running.saturated("withdrawals", requested, run.seconds, ramp_s=run.warm_up_s)
    if run.profiled:
        running.saturated("withdrawals, profiled", requested, run.seconds, profiled=True)
    half_per_s = max(1, round(full.per_s / 2))
    half = running.paced("half", requested, half_per_s, run.seconds)
    answers_ms = running.answer_latencies_ms(half)
    with_refused = members.mixed(requested, members.withdrawals(unpaid), every=REFUSED_EVERY)
    refused = running.paced("half, some refused", with_refused, half_per_s, run.seconds)
    released_ms = _released_ms(running, refused)
    if not released_ms:
        run.failures.append("No withdrawal was refused and released while that was measured.")
    return {
        "withdrawals_per_s": round(full.per_s, 1),
        "cpu_ms_per_withdrawal": round(full.cpu_ms_per_saga, 3),
        "p50_ms_to_202_at_half": percentile(answers_ms, 0.50),
        "p99_ms_to_202_at_half": percentile(answers_ms, 0.99),
        "p50_ms_to_paid_at_half": half.quantile_ms(0.50),
        "p99_ms_to_paid_at_half": half.quantile_ms(0.99),
        "holds_released": len(released_ms),
        "p50_ms_failure_to_released": percentile(released_ms, 0.50),
        "p99_ms_failure_to_released": percentile(released_ms, 0.99),
    }


def _released_ms(running: Session, measured: Measured) -> list[float]:
    """Return how long holds outlived the provider's refusals, ascending.

    From when the provider refused, by its own books, to when the tracker had recorded the reply of the released hold.
    That is after the release itself, so it is an upper bound.
    """
    ended, sources = [each.order_id for each in running.ended(measured)], sources_of(running.stack)
    with closing(connect(sources, TRACKER)) as connection:
        released: dict[str, datetime] = dict(connection.execute(RELEASED, (ended,)).fetchall())
    deadline_s = time.monotonic() + WRITTEN_WITHIN_S
    while True:
        with closing(connect(sources, members.MONEY)) as connection:
            refused: dict[str, datetime] = dict(connection.execute(REFUSED, (list(released),)).fetchall())
        if len(refused) == len(released):
            return sorted(1_000 * (released[each] - refused[each]).total_seconds() for each in released)
        if time.monotonic() > deadline_s:
            raise Refusal(f"{len(released)} holds are released, and the provider has refused {len(refused)} of them.")
        time.sleep(POLL_S)


def _dividends(run: Run, running: Session, staff: People, savers: Sequence[Member]) -> dict[str, Any]:
    """Measure a dividend run at a provider of few calls a second, and withdrawals without it and beside it."""
    bulk_per_s = PROVIDER_PER_S * (1 - MEMBERS_SHARE)
    lines = math.ceil(bulk_per_s * (run.seconds + 2 * RAMP_S + RUN_SPARE_S))
    members.register(staff, members.members(SHAREHOLDERS, math.ceil(lines / LINES_OF_A_MEMBER)))
    running.entry = _requests(running)
    requested = members.withdrawals(savers)
    alone = running.paced(
        "withdrawals alone", requested, BESIDE_PER_S, run.seconds, ramp_s=run.warm_up_s, repeats_max=0
    )
    name, follower = f"BENCH-{time.time_ns() // 1_000_000}", running.follower
    assert isinstance(follower, SaccoFollower)
    dividends.begin(staff, name)
    _wait_for_payouts(follower, name)
    beside = running.paced("withdrawals beside dividends", requested, BESIDE_PER_S, run.seconds, repeats_max=0)
    paid = follower.dividends(beside.began_at_s, beside.began_at_s + beside.seconds)
    if follower.dividends() >= lines:
        run.failures.append("The dividend run was over before the withdrawals beside it had ended.")
    closed = dividends.finish(staff, name)
    if closed["state"] != "CLOSED":
        run.failures.append(f"The dividend run {name} is {closed['state']}, and not CLOSED.")
    alone_ms, beside_ms = alone.quantile_ms(0.99), beside.quantile_ms(0.99)
    return {
        "provider_per_s": PROVIDER_PER_S,
        "provider_per_s_for_dividends": round(bulk_per_s, 1),
        "dividends_per_s": round(paid / beside.seconds, 1),
        "p50_ms_withdrawal_alone": alone.quantile_ms(0.50),
        "p99_ms_withdrawal_alone": alone_ms,
        "p50_ms_withdrawal_beside_dividends": beside.quantile_ms(0.50),
        "p99_ms_withdrawal_beside_dividends": beside_ms,
        "times_as_long_beside_dividends": round(beside_ms / alone_ms, 2) if alone_ms and beside_ms else None,
    }


def _wait_for_payouts(follower: SaccoFollower, name: str) -> None:
    """Wait until a run pays. Raises Refusal where it does not in time."""
    deadline_s = time.monotonic() + RUN_BEGINS_WITHIN_S
    while not follower.dividends():
        if time.monotonic() > deadline_s:
            raise Refusal(f"The dividend run {name} pays nothing after {RUN_BEGINS_WITHIN_S:.0f} s; see its timeline.")
        time.sleep(POLL_S)
