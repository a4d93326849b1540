"""Reconciliation's HTTP API: runs, their lines and their changes, divergences and who closed them, files of feeds.

It is for staff in finance. A merchant has no access: a run is about a gateway's account with all of its merchants.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, FastAPI, Path, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import Connection, Engine

from chassis.http.auth import Principal, require
from chassis.http.fields import Day, SagaId, Time
from chassis.http.json_body import JsonRoute
from chassis.http.problem import PROBLEM_RESPONSES, Problem
from chassis.postgres.transient import utc_now
from chassis.process import service
from chassis.process.service import Dependencies
from chassis.values.remark import LENGTH_MAX, remark
from chassis.wire.envelope import TIME_MAX, TIME_MIN, new_id
from reconciliation.model.findings import Divergence
from reconciliation.model.kinds import State
from reconciliation.store import divergences, feeds, runs
from reconciliation.store.runs import Run

PAGE_MAX: Final = 1_000
ID_MAX: Final = 2**63 - 1
RUN_MAX: Final = 2**31 - 1
READING: Final = (400, 401, 403, 422, 500, 503)
FINDING: Final = (*READING, 404)
WRITING: Final = (*FINDING, 409, 413, 415)
FIRST: Final = ""
Clock = Callable[[], datetime]


def _in_range(at: datetime) -> datetime:
    if not TIME_MIN <= at <= TIME_MAX:
        raise ValueError(f"Not between {TIME_MIN:%Y} and {TIME_MAX:%Y}")
    return at


def _payment_id(number: str | None) -> str | None:
    if number is not None and int(number) > ID_MAX:
        raise ValueError("No number of a payment, which has 63 bits")
    return number


Finance = Annotated[Principal, Depends(require("finance"))]
Account = Annotated[
    str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$", description="By its name in the gateway accounts.")
]
AccountQuery = Annotated[str | None, Query(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Amount = Annotated[str, Field(description="Minor units, as a decimal text.")]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]
RunNumber = Annotated[int, Path(ge=1, le=RUN_MAX)]
Number = Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$")]
PaymentId = Annotated[
    str | None,
    Query(pattern=r"^[0-9]{1,19}$", description="A payment's number."),
    AfterValidator(_payment_id),
]
Remark = Annotated[
    str, Field(min_length=1, max_length=LENGTH_MAX, description="Kept for good."), AfterValidator(remark)
]


class RunRequest(BaseModel):
    """A run of an account: of one day of payments in UTC, or of everything.

    With ``as_of`` in the future nothing is pending any more that would be overdue by then.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    account: Account
    day: Day | None = None
    as_of: Annotated[Time, AfterValidator(_in_range)] | None = None


class RequestAnswer(BaseModel):
    """A requested run. ``run`` is its number once it is done; ``failure`` is why it cannot be done."""

    request_id: str
    account: str
    day: date | None
    as_of: datetime | None
    requested_by: str
    requested_at: datetime
    run: int | None
    failure: str | None


class RunAnswer(BaseModel):
    """A run, which never changes. ``counts`` are its lines by what they came out as."""

    run: int
    account: str
    kind: str
    day: date | None
    as_of: datetime
    began_at: datetime
    requested_by: str | None
    line_count: int
    open_count: int
    is_clean: bool
    opened: int
    closed: int
    changed: int
    counts: dict[str, int]


class RunPage(BaseModel):
    """A page of runs, the newest first; request the next one with ``cursor=next_cursor``."""

    runs: list[RunAnswer]
    next_cursor: str | None


class LineAnswer(BaseModel):
    """One line of a run: a capture, a refund, a dispute, or a line of the feed that is of no payment."""

    number: int
    state: str
    movement: str
    payment_id: str | None
    item: str
    key: str
    currency: str
    ledger: Amount | None
    gateway: Amount | None
    feed: Amount | None
    feed_currency: str | None
    fee: Amount | None
    batch: str | None
    occurred_at: datetime


class LinePage(BaseModel):
    """A page of lines; request the next one with ``cursor=next_cursor``."""

    lines: list[LineAnswer]
    next_cursor: str | None


class ChangeAnswer(BaseModel):
    """What a run changed about a divergence: OPENED, CHANGED or CLOSED."""

    divergence_id: str
    change: str
    kind_before: str | None
    kind_after: str | None
    payment_id: str | None
    account: str
    detail: str


class DivergenceAnswer(BaseModel):
    """A divergence: OPEN, RESOLVED by a later run, or EXPLAINED by a person with a reason."""

    divergence_id: str
    account: str
    kind: str
    movement: str
    key: str
    payment_id: str | None
    detail: str
    state: str
    first_run: int
    last_run: int
    opened_at: datetime
    closed_at: datetime | None
    closed_by: str | None
    reason: str | None


class DivergencePage(BaseModel):
    """A page of divergences; request the next one with ``cursor=next_cursor``."""

    divergences: list[DivergenceAnswer]
    next_cursor: str | None


class Closure(BaseModel):
    """Why a divergence needs nothing more."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: Remark


class FeedAnswer(BaseModel):
    """A file of a feed as it was delivered. ``digest`` is its SHA-256, by which the raw file is kept."""

    id: int
    account: str
    name: str
    version: int
    digest: str
    byte_count: int
    line_count: int
    refusal: str | None
    loaded_at: datetime


class FeedPage(BaseModel):
    """A page of files, the newest first; request the next one with ``cursor=next_cursor``."""

    feeds: list[FeedAnswer]
    next_cursor: str | None


def application(dependencies: Dependencies) -> FastAPI:
    """Return the API."""
    return service.api("Reconciliation", dependencies, routes(dependencies.engine, utc_now))


def routes(engine: Engine, clock: Clock) -> APIRouter:
    """Return the routes."""
    router = APIRouter(route_class=JsonRoute, tags=["reconciliation"])
    _add_requests(router, engine, clock)
    _add_runs(router, engine)
    _add_divergences(router, engine)
    _add_closing(router, engine, clock)
    _add_feeds(router, engine)
    return router


def _responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: PROBLEM_RESPONSES[status] for status in statuses}


def _add_requests(router: APIRouter, engine: Engine, clock: Clock) -> None:
    @router.post("/v1/reconciliation-requests", status_code=202, responses=_responses(*WRITING))
    def request_run(body: RunRequest, caller: Finance) -> RequestAnswer:
        """Request a run now, besides those that are made by themselves. It is done within seconds to a minute."""
        values = {
            "request_id": new_id(), "account": body.account, "day": body.day, "as_of": body.as_of,
            "requested_by": caller.actor, "now": clock(),
        }  # fmt: skip
        with engine.begin() as tx:
            tx.execute(runs.REQUEST, values)
        return RequestAnswer(**values, requested_at=values["now"], run=None, failure=None)

    @router.get("/v1/reconciliation-requests/{request_id}", responses=_responses(*FINDING))
    def get_request(request_id: Annotated[SagaId, Path()], _caller: Finance) -> RequestAnswer:
        """Return a requested run: its number once it is done."""
        with engine.connect() as tx:
            row = tx.execute(runs.REQUEST_OF, {"request_id": request_id}).mappings().one_or_none()
        if row is None:
            raise Problem(status=404, detail="There is no such request.")
        return RequestAnswer(**row)


def _add_runs(router: APIRouter, engine: Engine) -> None:
    @router.get("/v1/reconciliation-runs", responses=_responses(*READING))
    def list_runs(_caller: Finance, account: AccountQuery = None, cursor: Number = None, limit: Limit = 100) -> RunPage:
        """List runs, the newest first."""
        with engine.connect() as tx:
            found = runs.page(account, min(int(cursor or RUN_MAX), RUN_MAX), limit, tx)
            answers = _run_answers(found, tx)
        return RunPage(runs=answers, next_cursor=str(found[-1].run) if len(found) == limit else None)

    @router.get("/v1/reconciliation-runs/{run}", responses=_responses(*FINDING))
    def get_run(run: RunNumber, _caller: Finance) -> RunAnswer:
        """Return a run."""
        with engine.connect() as tx:
            return _run_answers([_run(run, tx)], tx)[0]

    @router.get("/v1/reconciliation-runs/{run}/lines", responses=_responses(*FINDING))
    def list_lines(
        run: RunNumber, _caller: Finance, state: State | None = None, cursor: Number = None, limit: Limit = 100
    ) -> LinePage:
        """List the lines of a run, all or those that came out as one thing."""
        with engine.connect() as tx:
            _run(run, tx)
            found = runs.lines_of(run, state, min(int(cursor or 0), RUN_MAX), limit, tx)
        return LinePage(
            lines=[_line(row) for row in found],
            next_cursor=str(found[-1].number) if len(found) == limit else None,
        )

    @router.get("/v1/reconciliation-runs/{run}/changes", responses=_responses(*FINDING))
    def list_changes(run: RunNumber, _caller: Finance) -> list[ChangeAnswer]:
        """List what a run opened, changed and closed."""
        with engine.connect() as tx:
            _run(run, tx)
            rows = tx.execute(divergences.CHANGES_OF, {"run": run}).mappings().all()
        return [ChangeAnswer(**{**row, "payment_id": _text(row["payment_id"])}) for row in rows]


def _add_divergences(router: APIRouter, engine: Engine) -> None:
    @router.get("/v1/divergences", responses=_responses(*READING))
    def list_divergences(
        _caller: Finance,
        state: Literal["OPEN", "RESOLVED", "EXPLAINED"] | None = None,
        kind: State | None = None,
        account: AccountQuery = None,
        payment_id: PaymentId = None,
        cursor: Annotated[str | None, Query(pattern=r"^[0-9A-HJKMNP-TV-Z]{26}$")] = None,
        limit: Limit = 100,
    ) -> DivergencePage:
        """List divergences as they stand now."""
        wanted = {"state": state, "kind": kind, "account": account}
        wanted_payment = {"payment_id": None if payment_id is None else int(payment_id)}
        with engine.connect() as tx:
            found = divergences.page({**wanted, **wanted_payment}, cursor or FIRST, limit, tx)
        return DivergencePage(
            divergences=[_divergence(each) for each in found],
            next_cursor=found[-1].divergence_id if len(found) == limit else None,
        )

    @router.get("/v1/divergences/{divergence_id}", responses=_responses(*FINDING))
    def get_divergence(divergence_id: Annotated[SagaId, Path()], _caller: Finance) -> DivergenceAnswer:
        """Return a divergence."""
        with engine.connect() as tx:
            return _divergence(_found(divergence_id, tx))


def _add_closing(router: APIRouter, engine: Engine, clock: Clock) -> None:
    @router.post("/v1/divergences/{divergence_id}/closure", responses=_responses(*WRITING))
    def close(divergence_id: Annotated[SagaId, Path()], body: Closure, caller: Finance) -> DivergenceAnswer:
        """Close an open divergence with a reason. A later run opens it again only where it has changed."""
        with engine.begin() as tx:
            closed = divergences.explain(divergence_id, tx, by=caller.actor, reason=body.reason, now=clock())
            if closed is None:
                state = _found(divergence_id, tx).state
                raise Problem(
                    status=409,
                    title="The divergence is not open",
                    detail=f"It is {state}; only an open one can be closed.",
                    type="urn:baraza:problem:divergence-not-open",
                )
        return _divergence(closed)


def _add_feeds(router: APIRouter, engine: Engine) -> None:
    @router.get("/v1/feeds", responses=_responses(*READING))
    def list_feeds(
        _caller: Finance, account: AccountQuery = None, cursor: Number = None, limit: Limit = 100
    ) -> FeedPage:
        """List the files of feeds that were delivered, the newest first, with those that cannot be read."""
        values = {"account": account, "before": int(cursor or ID_MAX), "count": limit}
        with engine.connect() as tx:
            rows = tx.execute(feeds.LIST, values).mappings().all()
        return FeedPage(
            feeds=[FeedAnswer(**row) for row in rows],
            next_cursor=str(rows[-1]["id"]) if len(rows) == limit else None,
        )


def _run(number: int, tx: Connection) -> Run:
    found = runs.find(number, tx)
    if found is None:
        raise Problem(status=404, detail=f"There is no run {number}.")
    return found


def _found(divergence_id: str, tx: Connection) -> Divergence:
    found = divergences.find(divergence_id, tx)
    if found is None:
        raise Problem(status=404, detail="There is no such divergence.")
    return found


def _run_answers(found: list[Run], tx: Connection) -> list[RunAnswer]:
    counts = runs.counts_of([each.run for each in found], tx)
    names = [name for name in RunAnswer.model_fields if name not in ("counts", "is_clean")]
    return [
        RunAnswer(
            **{name: getattr(each, name) for name in names}, counts=counts[each.run], is_clean=each.open_count == 0
        )
        for each in found
    ]


def _line(row: Any) -> LineAnswer:
    return LineAnswer(
        number=row.number,
        state=row.state,
        movement=row.movement,
        payment_id=_text(row.payment_id),
        item=row.item,
        key=row.key,
        currency=row.currency,
        ledger=_text(row.ledger_minor),
        gateway=_text(row.gateway_minor),
        feed=_text(row.feed_minor),
        feed_currency=row.feed_currency,
        fee=_text(row.fee_minor),
        batch=row.batch,
        occurred_at=row.occurred_at,
    )


def _divergence(found: Divergence) -> DivergenceAnswer:
    names = [name for name in DivergenceAnswer.model_fields if name != "payment_id"]
    return DivergenceAnswer(**{name: getattr(found, name) for name in names}, payment_id=_text(found.payment_id))


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)
