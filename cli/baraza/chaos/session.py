"""A stack of chaos's own, from its start to the verdict, with what a person sees of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from baraza.audit import console
from baraza.chaos import engine, sacco_books
from baraza.chaos.lookup import CALLERS, lookup_environment
from baraza.chaos.messages import MessageFaults
from baraza.chaos.network import Network
from baraza.chaos.schedule import LONG, OF_ORDERS, OF_PAYMENTS, OF_SACCO, Kind
from baraza.chaos.target import ChaosTarget, replicas
from baraza.chaos.verdict import Verdict, judge
from baraza.chaos.waiting import wait_for_outcomes, waiting_of
from baraza.storefront import seed
from baraza.storefront.dataset import Mix, workload
from baraza.storefront.sacco.people import people
from baraza.storefront.sacco.treasury import treasury
from baraza.system import reconciliation
from baraza.system.running import Running
from baraza.system.startup import progress_shown
from baraza.terminal import progress, put
from stack import selection
from stack.contract import TRACKER
from stack.lifecycle import up
from stack.settings import from_environment

QUIET_WITHIN_S = 420.0
"""After the last fault: a saga's own deadline, and then every attempt of its compensations."""
PAYMENTS_RATE, SACCO_RATE = 2.0, 2.0
ORDERS = ("order", "return_order")
PAYMENTS = (
    "merchant_onboarding", "payment", "capture_later", "void_payment", "refund", "payment_reversal", "settlement",
)  # fmt: skip
SACCO = (
    "member_onboarding", "collection", "receipt", "suspense_allocation", "withdrawal", "loan_disbursement",
    "loan_repayment", "return_receipt", "dividend_run", "dividend_chunk", "dividend_wave", "dividend_payout",
    "end_of_day",
)  # fmt: skip
"""The sagas of what is requested at each of the rates."""
SPARE_BASKETS = 1_000
SPARE_FACTOR = 2
"""A run lasts longer than ``minutes``, because it waits for recoveries: it may submit this many times the orders."""
SHORT_PRODUCTS = 0.02
"""Enough that some orders find no stock, though only a part of the baskets is ever submitted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long faults are injected, which, under how many orders, payments and acts of a SACCO's members a second.

    Without a ``payments_rate`` there are PAYMENTS_RATE, and without a ``sacco_rate`` SACCO_RATE, where the stack has
    their services. What has a rate of 0 is not started.
    """

    minutes: float
    seed: int
    rate: float
    kinds: tuple[Kind, ...]
    outage_s: float
    payments_rate: float | None = None
    sacco_rate: float | None = None

    @property
    def baskets(self) -> int:
        """How many baskets are read, so that the load does not end before the run."""
        long_s = self.outage_s * len(set(self.kinds).intersection(LONG))
        return SPARE_BASKETS + int(self.rate * (self.minutes * 60 + long_s) * SPARE_FACTOR) if self.rate > 0 else 0

    @property
    def sagas(self) -> tuple[str, ...] | None:
        """The sagas whose services are started; None: all of them."""
        return sagas_of(rate=self.rate, payments_rate=self.payments_rate, sacco_rate=self.sacco_rate)


def sagas_of(*, rate: float, payments_rate: float | None, sacco_rate: float | None) -> tuple[str, ...] | None:
    """Return the sagas without those of what has a rate of 0; None where nothing has."""
    left_out = {
        saga
        for requested, family in ((rate, ORDERS), (payments_rate, PAYMENTS), (sacco_rate, SACCO))
        if requested == 0
        for saga in family
    }
    return tuple(saga for saga in selection.known() if saga not in left_out) if left_out else None


def met(kinds: Iterable[Kind], *, rate: float, payments_rate: float, sacco_rate: float) -> tuple[Kind, ...]:
    """Return the kinds of fault without those that only what has a rate of 0 would meet."""
    families = ((rate, OF_ORDERS), (payments_rate, OF_PAYMENTS), (sacco_rate, OF_SACCO))
    unmet = {kind for requested, family in families if requested == 0 for kind in family}
    return tuple(kind for kind in kinds if kind not in unmet)


def run(folder: Path, plan: Plan, write: Callable[[str], None]) -> Verdict:
    """Run the plan on a stack in ``folder``, write what happens, and return the verdict. Raises StackError, Refusal."""
    with progress("reading baskets"):
        orders = workload(plan.baskets, Mix(seed=plan.seed, short_products=SHORT_PRODUCTS))
    with opened(folder, sagas=plan.sagas) as target:
        payments_rate = _rate(target, plan.payments_rate, PAYMENTS_RATE, target.has_payments, "payment")
        sacco_rate = _rate(target, plan.sacco_rate, SACCO_RATE, target.has_sacco, "withdrawal")
        kinds = met(plan.kinds, rate=plan.rate, payments_rate=payments_rate, sacco_rate=sacco_rate)
        if plan.rate > 0:
            seed.load_workload(target.running, orders)
        load, injected = engine.run(
            target, orders, minutes=plan.minutes, seed=plan.seed, rate=plan.rate, kinds=kinds,
            outage_s=plan.outage_s, write=write, payments_rate=payments_rate, sacco_rate=sacco_rate,
        )  # fmt: skip
        settle(target, QUIET_WITHIN_S)
        divergences = compared(target.running) if load.payments is not None else []
        if load.sacco is not None:
            divergences += sacco_books.compared(target, load.sacco.began_at, QUIET_WITHIN_S)
        target.close_letters()
        report = console.run(target.running, QUIET_WITHIN_S)
        verdict = judge(target, load, injected, report, divergences)
        console.show(report, write)
        show(verdict, write)
    return verdict


def _rate(target: ChaosTarget, requested: float | None, usual: float, is_there: bool, saga: str) -> float:
    """Return how many of these are made a second. Raises NotStarted where the stack cannot make those requested."""
    if requested is None:
        return usual if is_there else 0.0
    if requested > 0:
        target.running.require(saga)
    return requested


def settle(target: ChaosTarget, wait_s: float, *, outcomes_s: float | None = None) -> None:
    """Wait until nothing moves and no outcome is awaited, or ``wait_s`` has passed for each. Raises Unreadable.

    ``outcomes_s`` is another time for the outcomes: a prompt waits for a quarter of an hour.
    A saga whose callback was lost moves again when its provider is queried. Treasury opens lanes meanwhile.
    """
    console.wait_until_quiet(target.running, wait_s)
    with progress("sagas that wait for an outcome") as advance:
        seen = 0

        def on_wait(count: int) -> None:
            nonlocal seen
            advance(count - seen)
            seen = count

        with ExitStack() as opened:
            if target.has_sacco:
                opened.enter_context(treasury(opened.enter_context(people(target.running))))
            wait_for_outcomes(lambda: waiting_of(target), wait_s if outcomes_s is None else outcomes_s, on_wait)
    console.wait_until_quiet(target.running, wait_s)


def compared(stack: Running) -> list[str]:
    """Reconcile the gateways' own books with the ledger, and return a sentence for everything that diverges.

    What they report is booked, so it settles things as well. Raises Refusal.
    """
    found = []
    with stack.api("reconciliation") as api:
        for gateway, account in reconciliation.ACCOUNTS.items():
            reconciliation.close_batch(stack, gateway, account)
            reconciliation.run(api, account)
            found += reconciliation.open_divergences(api, account)
    return [
        f"payment {each['payment_id']} diverges from the books of {each['account']}: {each['kind']}, {each['detail']}"
        for each in found
    ]


@contextmanager
def opened(folder: Path, *, timeout_factor: float = 1.0, sagas: tuple[str, ...] | None = None) -> Iterator[ChaosTarget]:
    """Yield a stack in ``folder`` with two processes of each service, and take it down afterwards.

    ``timeout_factor`` stretches every deadline of a saga. Only what ``sagas`` need is started; None: everything.
    """
    callers = dict.fromkeys(CALLERS, lookup_environment(folder.absolute()))
    variables = callers | {TRACKER: {"BARAZA_TIMEOUT_FACTOR": str(timeout_factor)}}
    settings = from_environment(
        home=folder, proxied=True, sagas=sagas, replicas=replicas(), environment=variables
    )  # fmt: skip
    with progress_shown() as watch:
        stack = up(settings, watch)
        try:
            with Network(stack.toxiproxy_url) as network:
                running = Running(stack=stack)
                messages = MessageFaults(stack.kafka(), running.is_started)
                yield ChaosTarget(running=running, network=network, messages=messages)
        finally:
            stack.down(watch)


def show(verdict: Verdict, write: Callable[[str], None] = put) -> None:
    """Write the figures of a run for a person."""
    write(
        f"{verdict.accepted} orders accepted ({_states(verdict.states)}), {verdict.cancellations} cancelled by their "
        "customers"
    )
    write(
        f"{verdict.returns} returns accepted ({_states(verdict.return_states)}), {verdict.return_cancellations} "
        "cancelled by their customers"
    )
    if verdict.sacco:
        write(f"Of the SACCO's members: {_counts(verdict.sacco)}; not possible: {_states(verdict.sacco_refused)}")
        for name, states in verdict.sacco_states.items():
            write(f"  {name}: {_states(states)}")
    if verdict.payments:
        write(f"{verdict.payments} payments accepted ({_states(verdict.payment_states)})")
        write(f"  requested of them: {_states(verdict.requested)}; not possible: {_states(verdict.refused)}")
        for name, states in verdict.operation_states.items():
            write(f"  {name}: {_states(states)}")
    write(f"{'fault':<16}{'times':>6}{'recovered in, median':>22}{'longest':>9}")
    for kind, recovery in verdict.recoveries().items():
        median, longest = (_seconds(value) for value in (recovery.median_s, recovery.longest_s))
        write(f"{kind:<16}{recovery.faults:>6}{median:>22}{longest:>9}")
    write(
        f"{verdict.lost} lost, {verdict.late} lost to a delay, {verdict.doubled} doubled, {verdict.poisons} poisons, "
        f"parked by {verdict.parked_by}"
    )
    for each in verdict.waiting:
        write(f"WAITS  {each.saga_id} {each.what}")
    for violation in verdict.violations:
        write(f"VIOLATION  {violation}")
    write(f"{len(verdict.violations)} violations")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}s" for what, count in sorted(counts.items()))


def _states(states: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none"


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"
