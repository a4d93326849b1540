"""Mobile money's HTTP API: callbacks, and where staff read what is in doubt, import statements and close days."""

from __future__ import annotations

from functools import partial

from fastapi import FastAPI

from chassis.postgres.transient import utc_now
from chassis.process import evidence_api, service
from chassis.process.service import Dependencies
from chassis.wire.envelope import new_id
from mobile_money import closed_references, day_api, inbox, money_api, statement_api
from mobile_money.inbox import Inbox
from mobile_money.intake import Deciding
from mobile_money.short_codes import ShortCodes

BODY_BYTES_MAX = 33_554_432
"""A month's statement of a large SACCO."""


def application(dependencies: Dependencies, short_codes: ShortCodes, callbacks: Inbox, needed: Deciding) -> FastAPI:
    """Return the API."""
    engine = dependencies.engine
    return service.api(
        "Mobile money",
        dependencies,
        inbox.routes(
            short_codes, callbacks, partial(closed_references.reason_of, engine), clock=utc_now, new_id=new_id
        ),
        evidence_api.routes(engine, clock=utc_now),
        money_api.routes(engine, needed, clock=utc_now),
        statement_api.routes(engine, needed, clock=utc_now),
        day_api.routes(engine, needed, clock=utc_now),
        body_bytes_max=BODY_BYTES_MAX,
    )
