"""``baraza demo payments``: merchants' payments at both gateways' simulators, to the reconciled ledger."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from baraza.commands.options import COUNT_MAX, SEED_MAX, Home, Json
from baraza.terminal import FOUND_A_PROBLEM, notify, progress, put, put_json, stop

if TYPE_CHECKING:
    from baraza.demo.payments.plan import Plan
    from baraza.demo.payments.result import DemoOfPayments
    from baraza.demo.payments.run import Payments
    from baraza.storefront.listener import Listener
    from baraza.system.running import Running

SAGAS = ("payment", "capture_later", "void_payment", "refund", "payment_reversal", "settlement", "merchant_onboarding")
AUDIT_WAIT_S = 60.0
MERCHANTS_MAX = 457
"""The stores of the data."""

Count = Annotated[int, typer.Option("--payments", min=20, max=COUNT_MAX, metavar="NUMBER", help="Number of purchases.")]
Merchants = Annotated[
    int, typer.Option("--merchants", min=2, max=MERCHANTS_MAX, metavar="NUMBER", help="Number of stores.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=SEED_MAX, help="Seed of declines, acts and injected fraud.")]
Keep = Annotated[bool, typer.Option("--keep", help="Leave the stack up afterwards.")]


def payments(
    count: Count = 200,
    merchants: Merchants = 12,
    seed: Seed = 1,
    keep: Keep = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Pay a retailer's stores at both gateways, with failures, and reconcile: exactly what is planted must be found.

    Households are payers, stores are merchants. Injected fraud is labelled, and these labels are synthetic.
    Exit status 1 unless the books balance, exactly the planted divergences are found and the audit is green.
    """
    from baraza.audit import console
    from baraza.commands.demo import running_stack
    from baraza.demo.payments import result as results

    write = notify if as_json else put
    with running_stack(home, keep=keep) as stack:
        for saga in SAGAS:
            stack.require(saga)
        result = _run(stack, count=count, merchants=merchants, seed=seed)
        results.write(result, write)
        console.show(result.report, write)
    if as_json:
        put_json(result.summary())
    if not result.is_good:
        stop(FOUND_A_PROBLEM)


def _run(stack: Running, *, count: int, merchants: int, seed: int) -> DemoOfPayments:
    from baraza.audit import console
    from baraza.demo.payments import closing, lake, plan
    from baraza.demo.payments.result import DemoOfPayments
    from baraza.storefront import listener
    from baraza.storefront.dataset import file_of
    from baraza.storefront.purchases import purchases

    began_at, began_s = datetime.now(UTC), time.monotonic()
    name = f"{int(began_at.timestamp()):x}"
    planned = plan.plan(purchases(file_of("transactions")), count=count, merchants=merchants, seed=seed, run=name)
    with listener.listening() as endpoints:
        made, acts = _pay(stack, planned, endpoints, name)
        notify("Waiting for the last webhooks.")
        closing.wait_for_deliveries(lambda: endpoints.counts().total(), len(made.shown))
        notify("Closing the gateways' batches and reconciling.")
        reconciled = closing.reconcile(stack)
        failed = [payment_id for payment_id, found in made.shown.items() if found["status"] == "FAILED"]
        blocked = closing.blocked_by_risk(stack, failed)
    injected = {payment_id for payment_id, each in made.planned.items() if each.is_fraud}
    return DemoOfPayments(
        payments=made,
        acts=acts,
        delivered=endpoints.counts(),
        refused_deliveries=endpoints.refused,
        reconciled=reconciled,
        trial_balance=closing.trial_balance(stack),
        queried=lake.query(stack, Path(stack.stack.home) / "demo-lake" / name, began_at),
        scored=plan.Scored(injected=len(injected), blocked=len(blocked), blocked_and_injected=len(blocked & injected)),
        report=console.run(stack, AUDIT_WAIT_S),
        took_s=time.monotonic() - began_s,
    )


def _pay(stack: Running, planned: Plan, endpoints: Listener, name: str) -> tuple[Payments, Mapping[str, int]]:
    """Register the merchants, request the payments and follow them to their end, with faults at both gateways."""
    from baraza.demo.payments import run
    from baraza.storefront import merchants
    from baraza.system import providers

    with merchants.sending(stack) as client:
        notify(f"Registering {len(planned.merchants)} merchants.")
        merchants.register(client, planned.merchants, endpoints)
        with providers.faults(stack, providers.PAYMENT_FAULTS):
            with progress("payments requested", len(planned.payments)) as advance:
                made = run.submit(client, planned, name, advance)
            with progress("payments ended", len(made.shown)) as advance:
                run.settle(client, made, advance)
            acts = run.follow_up(client, made, name)
            with progress("captures, voids and refunds ended", sum(acts.values())) as advance:
                run.settle(client, made, advance)
    return made, acts
