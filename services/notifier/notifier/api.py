"""Notifier's HTTP API: merchants have theirs under /v1, staff the same under the merchant and the mode.

Members have none: staff read the texts that they were sent.
"""

from __future__ import annotations

from fastapi import APIRouter, Depends, FastAPI

from chassis.http import issuers
from chassis.postgres.transient import utc_now
from chassis.process import service
from chassis.process.service import Dependencies
from chassis.settings import Settings
from notifier import delivery_api, endpoint_api, text_api
from notifier.callers import MERCHANT_ROLES, MerchantGuard, StaffGuard
from notifier.calling import Caller
from notifier.endpoint_api import Resources, new_router
from notifier.model.addresses import Rules, networks
from notifier.sealing import Sealing

STAFF = "/v1/merchants/{merchant_id}/{mode}"


def application(dependencies: Dependencies) -> FastAPI:
    """Return the API."""
    settings = dependencies.settings
    resources = Resources(
        engine=dependencies.engine,
        codec=dependencies.codec,
        caller=Caller(rules_of(settings)),
        sealing=Sealing(settings.webhook_key_file),
        clock=utc_now,
    )
    app = service.api("Notifier", dependencies, *routers(resources))
    app.state.verifier = issuers.verifier_of(settings, dependencies.verifier, believed=MERCHANT_ROLES)
    return app


def rules_of(settings: Settings) -> Rules:
    """Return what may be called by the settings. Raises ValueError for a network that is none."""
    return Rules(allows_loopback=settings.webhook_loopback, forbidden=networks(settings.webhook_forbidden_networks))


def routers(resources: Resources) -> tuple[APIRouter, APIRouter, APIRouter]:
    """Return the routes of merchants, of staff about a merchant, and of staff about members' texts."""
    own = new_router("/v1", "webhooks")
    merchant = Depends(MerchantGuard().scope)
    endpoint_api.add_merchants(own, resources, merchant)
    delivery_api.add_events(own, resources, merchant)
    delivery_api.add_deliveries(own, resources, merchant)
    delivery_api.add_attempts(own, resources, merchant)
    delivery_api.add_replays(own, resources, merchant)
    delivery_api.add_ping(own, resources, merchant)
    staff = new_router(STAFF, "staff")
    reads, acts = Depends(StaffGuard("support", "operator").scope), Depends(StaffGuard("operator").scope)
    endpoint_api.add_reading(staff, resources, reads)
    endpoint_api.add_switching(staff, resources, acts)
    delivery_api.add_events(staff, resources, reads)
    delivery_api.add_deliveries(staff, resources, reads)
    delivery_api.add_attempts(staff, resources, reads)
    delivery_api.add_replays(staff, resources, acts)
    delivery_api.add_ping(staff, resources, acts)
    return own, staff, text_api.routes(resources.engine)
