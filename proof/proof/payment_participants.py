"""The participants of a schedule of merchants' payments: their services, and an account at a gateway of each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, Engine, text

import ledger.handlers
import merchant.handlers
import notifier.handlers
from chassis.http.gateway_accounts import GatewayAccount, GatewayAccounts, Route
from chassis.saga.steps import Handler
from payment.gateways.adyen import AdyenGateway
from payment.gateways.client import Account
from payment.gateways.registry import Gateways
from payment.gateways.stripe import StripeGateway
from payment.merchants import reporting
from payment.merchants.callbacks import AdyenWebhooks, GatewayCallbacks, StripeWebhooks
from payment.merchants.steps import steps
from proof.api_workers import ApiWorker, GatewayInbox
from proof.connections import ProcessConnection
from proof.deployment import PROCESSES, Deployment
from proof.disturbances import Disturbances
from proof.failing_handlers import FailingHandlers
from proof.merchants import ADYENS, IS_LIVE, STRIPES, Merchants
from proof.operator import Operator
from proof.outages import Outages
from proof.simulated_accounts import SimulatedAccount
from proof.simulated_adyen import MERCHANT_ACCOUNT, SimulatedAdyen
from proof.simulated_stripe import SimulatedStripe
from risk.handlers import handlers as risks_handlers
from risk.rule_sets import RuleSets
from saga_tracker.definitions import DEFINITIONS

STRIPE, ADYEN = "stripe-main", "adyen-main"
SAGAS = frozenset(
    {"payment", "capture_later", "void_payment", "refund", "payment_reversal", "merchant_onboarding", "settlement"}
)
FAULTS_AGAIN_MAX_S = 20.0
INBOX, REPORTS, LOOKUPS = 2, 3, 4
"""The numbers of payment's connections besides those of its workers."""
TRIES_MAX = 60
"""A report that waits for longer, some days, waits for a saga that is parked: it is looked at again at rest."""
NEXT_DECISION = text("SELECT min(decide_at) FROM gateway_notices WHERE tries < :tries")
AGAIN = text("UPDATE gateway_notices SET decide_at = :now WHERE decide_at IS NOT NULL AND tries >= :tries")
INSERT_ENDPOINT = text("""
    INSERT INTO endpoints (endpoint_id, merchant_id, is_live, url, description, types, state, created_at, updated_at)
    VALUES (:endpoint_id, :merchant_id, :is_live, 'https://example.org/', '', '{}', 'ENABLED', now(), now())
""")


@cache
def _accounts() -> GatewayAccounts:
    """Return an account at a gateway of each kind. No file of theirs is read: the adapters have other accounts."""
    nothing = Path("/nonexistent")

    def account(name: str, gateway: Any, merchant_id: str, merchant_account: str | None) -> GatewayAccount:
        return GatewayAccount(
            name=name, gateway=gateway, is_live=IS_LIVE[merchant_id], url=cast(Any, "http://127.0.0.1/"),
            api_key_file=nothing, webhook_secret_file=nothing, merchant_account=merchant_account,
            settlement_currency="EUR",
        )  # fmt: skip

    return GatewayAccounts(
        accounts=(account(STRIPE, "stripe", STRIPES, None), account(ADYEN, "adyen", ADYENS, MERCHANT_ACCOUNT)),
        routes=(
            Route(merchant=STRIPES, is_live=IS_LIVE[STRIPES], account=STRIPE),
            Route(merchant=ADYENS, is_live=IS_LIVE[ADYENS], account=ADYEN),
        ),
    )


@cache
def _rules() -> RuleSets:
    return RuleSets()


@dataclass(frozen=True, slots=True)
class Reading:
    """An engine that only reads, on one connection."""

    connection: ProcessConnection

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Yield a transaction."""
        with self.connection.begin() as tx:
            yield tx


@dataclass(slots=True, kw_only=True)
class PaymentParticipants(Deployment):
    """All participants of one schedule of payments."""

    stripe: SimulatedStripe = field(init=False)
    adyen: SimulatedAdyen = field(init=False)
    inbox: GatewayInbox = field(init=False)
    merchants: Merchants = field(init=False)
    workers: list[ApiWorker] = field(init=False)
    _adapters: dict[str, GatewayCallbacks] = field(init=False)
    _reports_at: datetime | None = None
    _known_at_rest: int = -1

    def __post_init__(self) -> None:
        chance = self.schedule.chance
        self.failing = FailingHandlers(self.schedule)
        self.database.empty()
        self.stripe = SimulatedStripe(
            name=STRIPE, schedule=self.schedule, tell=self._telling(STRIPE), on_change=self._on_change
        )
        self.adyen = SimulatedAdyen(
            name=ADYEN, schedule=self.schedule, tell=self._telling(ADYEN), on_change=self._on_change
        )
        definitions = {key: each for key, each in DEFINITIONS.items() if each.name in SAGAS}
        services = {step.service for each in definitions.values() for step in each.steps} | {"merchant"}
        self.outages = Outages(schedule=self.schedule, services=sorted(services))
        self.services = {name: self.processes(name, handlers) for name, handlers in self._declared().items()}
        self._adapters = self._callbacks()
        service = self.services["payment"][0].service
        service.adapters = tuple(self._adapters.values())
        merchants = self.services["merchant"][0].service
        apis = [ApiWorker(service=merchants, number=number) for number in (INBOX, REPORTS)]
        self.workers = [*apis, *(ApiWorker(service=service, number=number) for number in (INBOX, REPORTS))]
        self.inbox = GatewayInbox(worker=self.workers[2], stored=lambda: self._report_at(self._soon()))
        self.timeout_factor = chance.choice((0.25, 0.5, 1.0))
        self.trackers = [self.tracker(number) for number in range(PROCESSES)]
        self.disturbances = Disturbances(schedule=self.schedule, services=self.services, trackers=self.trackers)
        self.trackers[0].begin()
        self.merchants = Merchants(workers=apis, accounts=_accounts(), codec=self.codec)
        self.operator = Operator(database=self.database, schedule=self.schedule, next_wake_up=self.next_wake_up)
        self.is_redriven = chance.random() < 0.7
        self._add_endpoints()

    @property
    def accounts(self) -> tuple[SimulatedAccount, ...]:
        """The accounts at gateways."""
        return self.stripe, self.adyen

    def abandon(self) -> None:
        """End every task where it stands, for good."""
        for task in (*(each.task for each in self.disturbances.processes), *(each.task for each in self.workers)):
            task.abandon()

    def _declared(self) -> dict[str, Sequence[Handler]]:
        key = lambda: "key"  # noqa: E731 - an account's key, which the simulated gateways do not read
        stripe = StripeGateway(cast(Account, self.stripe), api_key=key)
        adyen = AdyenGateway(cast(Account, self.adyen), merchant_account=MERCHANT_ACCOUNT, api_key=key)
        return {
            "merchant": merchant.handlers.HANDLERS,
            "risk": risks_handlers(_rules()),
            "ledger": ledger.handlers.HANDLERS,
            "payment": (*steps(Gateways({STRIPE: stripe, ADYEN: adyen})), *reporting.REACTIONS),
            "notifier": notifier.handlers.HANDLERS,
        }

    def _callbacks(self) -> dict[str, GatewayCallbacks]:
        engine = cast(Engine, Reading(self.database.connection("payment", LOOKUPS)))
        return {
            STRIPE: GatewayCallbacks(account=STRIPE, webhooks=StripeWebhooks(account=STRIPE, secrets=tuple)),
            ADYEN: GatewayCallbacks(
                account=ADYEN,
                webhooks=AdyenWebhooks(account=ADYEN, merchant_account=MERCHANT_ACCOUNT, secrets=tuple, engine=engine),
            ),
        }

    def _telling(self, account: str) -> Callable[[bytes], None]:
        return lambda body: self.inbox.take(self._adapters[account], body)

    def _on_change(self) -> None:
        self.schedule.begin_faults(FAULTS_AGAIN_MAX_S)

    def _soon(self) -> datetime:
        return self.schedule.now + self.schedule.within(reporting.EVERY_S)

    def _report_at(self, when: datetime) -> None:
        """Let payment's task decide about reports then, unless it does so before."""
        if self._reports_at is None or when < self._reports_at:
            self._reports_at = when
            self.schedule.at(when, lambda: self._report() if self._reports_at == when else None)

    def _report(self) -> None:
        schedule, due = self.schedule, list[datetime | None]()
        self._reports_at = None

        def decide(tx: Connection) -> None:
            reporting.report(tx, self.codec, now=schedule.now)
            due[:] = [tx.execute(NEXT_DECISION, {"tries": TRIES_MAX}).scalar_one()]

        def then() -> None:
            self.services["payment"][0].service.sweep_later()
            if due[0] is not None:
                self._report_at(max(due[0], self._soon()))

        self.workers[3].do(decide, then)

    def reports_once_more(self) -> bool:
        """At rest, look once more at reports that have waited for long, if anything was published since."""
        if self._known_at_rest == self.broker.appended_count:
            return False
        self._known_at_rest = self.broker.appended_count
        values = {"now": self.schedule.now, "tries": TRIES_MAX}
        with self.database.connection("payment", LOOKUPS).begin() as tx:
            is_waiting = bool(tx.execute(AGAIN, values).rowcount)
        if is_waiting:
            self._report_at(self._soon())
        return is_waiting

    def _add_endpoints(self) -> None:
        with self.database.connection("notifier", 0).begin() as tx:
            for merchant_id, is_live in IS_LIVE.items():
                values = {"endpoint_id": f"endpoint of {merchant_id}", "merchant_id": merchant_id, "is_live": is_live}
                tx.execute(INSERT_ENDPOINT, values)
