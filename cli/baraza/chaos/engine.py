"""One run: the load goes on while one fault after another is injected, until the time is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from baraza.chaos.callbacks import keep
from baraza.chaos.faults import inject
from baraza.chaos.load import Load
from baraza.chaos.payments import Payments, Registered, named
from baraza.chaos.replicas import Replicas
from baraza.chaos.sacco import Sacco, members_of
from baraza.chaos.schedule import Fault, Kind, faults
from baraza.chaos.target import ChaosTarget
from baraza.storefront.dataset import Workload
from baraza.storefront.listener import listening
from baraza.storefront.merchants import register, sending
from baraza.storefront.sacco.people import people
from baraza.storefront.sacco.registering import register as registering
from baraza.storefront.sacco.treasury import FLOAT_MINOR, bring_float, treasury
from baraza.system import providers
from baraza.system.client import Api
from baraza.system.running import Running
from chassis.wire.envelope import new_id
from stack.providers import DARAJA

RECOVERED_ORDERS = 5
"""After a fault this many new orders must be confirmed: with as many, more than one partition works end to end."""
RECOVERED_PAYMENTS = 3
"""And this many payments, where there are any: at both gateways, as a rule."""
RECOVERED_OF_SACCO = {"receipt": 2, "withdrawal": 1}
"""And so much of the money of a SACCO's members, where there is any: it comes in and goes out."""
RECOVERY_S_MAX = 120.0
"""Longer than a killed member's session, a process's start and its first batch; a longer recovery is a violation."""
POLL_S = 0.5

Write = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class InjectedFault:
    """A fault that was injected: a description, when it began and ended, and how long the recovery took."""

    fault: Fault
    what: str
    after_s: float
    began_at: datetime
    ended_at: datetime
    recovery_s: float | None = None


class Run:
    """One run over a target. However it ends, every process runs again and the network is healed."""

    def __init__(
        self, target: ChaosTarget, load: Load, *, seed: int, kinds: Sequence[Kind], outage_s: float, write: Write
    ) -> None:
        self._target = target
        self._load = load
        self._seed = seed
        self._kinds = kinds
        self._outage_s = outage_s
        self._write = write
        self._began_at_s = time.monotonic()
        self.injected: list[InjectedFault] = []

    def go(self, minutes: float) -> None:
        """Inject faults for ``minutes``, and every kind at least once. Raises StackError, Refusal."""
        with self._load:
            try:
                for fault in self._due(minutes):
                    self._inject(fault)
                self._recover()
                self._load.end()
                self._target.heal()
            finally:
                self._target.release()
        for past in self.injected:
            past.recovery_s = self._recovery_s(past)

    def _due(self, minutes: float) -> Iterator[Fault]:
        for fault in faults(self._seed, self._kinds, self._target.processes, outage_s=self._outage_s):
            if not fault.is_early:
                self._recover()
            self._sleep(fault.wait_s)
            if fault.number > len(self._kinds) and self._elapsed_s > minutes * 60:
                return
            yield fault

    def _inject(self, fault: Fault) -> None:
        began_at_s, began_at = self._elapsed_s, datetime.now(UTC)
        what = inject(self._target, fault, self._sleep)
        self.injected.append(
            InjectedFault(fault=fault, what=what, after_s=began_at_s, began_at=began_at, ended_at=datetime.now(UTC))
        )
        self._write(f"{began_at_s:7.1f} s  {fault.kind:<14}  {what}")

    def _recover(self) -> None:
        """Wait for the recovery from the last fault, at most RECOVERY_S_MAX."""
        deadline_s = time.monotonic() + RECOVERY_S_MAX
        while self.injected and self._recovery_s(self.injected[-1]) is None and time.monotonic() < deadline_s:
            self._sleep(POLL_S)

    def _recovery_s(self, past: InjectedFault) -> float | None:
        needed = {"order": RECOVERED_ORDERS} if self._load.has_orders else {}
        needed |= {} if self._load.payments is None else {"payment": RECOVERED_PAYMENTS}
        needed |= {} if self._load.sacco is None else RECOVERED_OF_SACCO
        times = [self._target.confirmed_again_at(past.ended_at, count, saga) for saga, count in needed.items()]
        known = [at for at in times if at is not None]
        return round((max(known) - past.ended_at).total_seconds(), 1) if len(known) == len(times) else None

    def _sleep(self, seconds: float) -> None:
        """Wait. Raises what ended the load before its time."""
        end_s = time.monotonic() + seconds
        while True:
            self._load.check()
            if (left_s := end_s - time.monotonic()) <= 0:
                return
            time.sleep(min(left_s, POLL_S))

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_at_s


def run(
    target: ChaosTarget,
    workload: Workload,
    *,
    minutes: float,
    seed: int,
    rate: float,
    kinds: Sequence[Kind],
    outage_s: float,
    write: Write,
    payments_rate: float = 0.0,
    sacco_rate: float = 0.0,
) -> tuple[Load, list[InjectedFault]]:
    """Run the load and the faults over a stack with its seed data; return the load and the faults that were injected.

    Merchants and members register before the first fault. Raises StackError, Refusal.
    """
    with ExitStack() as opened:
        checkouts = [opened.enter_context(api) for api in target.running.apis("checkout")]
        payments = None
        if payments_rate > 0:
            registered = opened.enter_context(_registered(target.running))
            # Without a token of staff: each request bears the key of its merchant.
            apis = [Api("merchant", url, None) for url in target.running.urls("merchant")]
            merchants = Replicas([opened.enter_context(api) for api in apis])
            payments = Payments(merchants, registered, rate=payments_rate, seed=seed, outage_s=outage_s)
            opened.enter_context(providers.faults(target.running, providers.PAYMENT_FAULTS))
        sacco = None
        if sacco_rate > 0:
            opened.enter_context(treasury(opened.enter_context(people(target.running))))
            sacco = _sacco(target.running, opened, rate=sacco_rate, seed=seed, outage_s=outage_s)
        load = Load(checkouts, workload, rate=rate, seed=seed, outage_s=outage_s, payments=payments, sacco=sacco)
        this = Run(target, load, seed=seed, kinds=kinds, outage_s=outage_s, write=write)
        if load.has_orders:
            opened.enter_context(providers.faults(target.running))
        this.go(minutes)
    return load, this.injected


def _sacco(stack: Running, opened: ExitStack, *, rate: float, seed: int, outage_s: float) -> Sacco:
    """Bring float, register members, and let the provider fail as it always does; these faults stay."""
    members = members_of(int(datetime.now(UTC).timestamp()))
    with people(stack) as staff:
        bring_float(staff, FLOAT_MINOR)
        registering(staff, members, lambda _count: None)
        for fault in providers.MOBILE_MONEY_FAULTS[DARAJA]:
            keep(staff.provider, fault)
    provider = opened.enter_context(Api(DARAJA, stack.url(DARAJA), None))
    replicas = Replicas([opened.enter_context(api) for api in stack.apis("members")])
    return Sacco(replicas, provider, members, rate=rate, seed=seed, outage_s=outage_s)


@contextmanager
def _registered(stack: Running) -> Iterator[Registered]:
    """Register merchants, and take their events while the block runs."""
    currencies = named(new_id()[-8:].lower())
    with listening() as listener, sending(stack) as client:
        register(client, currencies, listener)
        yield Registered(currencies=currencies, keys=client.keys)
