"""Members' HTTP API for dividend runs: computed, approved by another person on the hash of the lines, and followed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from sqlalchemy import Connection

from chassis.http.json_body import JsonRoute
from chassis.http.people import person
from chassis.http.problem import FieldError, Problem, invalid
from chassis.postgres.transient import utc_now
from chassis.wire.envelope import new_id
from members import dividend_tables, member_tables, terms_tables
from members.access import Approver, Decider, Finance, StaffMember, check_second, decided
from members.bodies import ApprovalBody, ReasonBody, RunBody
from members.dividend_tables import RunRow
from members.dividends import Line, Payee, Rates, hash_of, lines_of, totals_of
from members.domain import AccountStatus
from members.endpoints import CHANGE, COMMON, ONE, After, Limit, Resources, RunPath, Trace, save_events
from members.intake import beginning, ways
from messages.members import DividendRunApproved

RUNS_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SumAnswer:
    """The lines of a run in one state with one destination."""

    state: str
    destination: str
    line_count: int
    gross_minor: int
    tax_minor: int
    net_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveAnswer:
    """A wave of payouts: RESERVED ones are being paid, a WAITING one asks again at ``due_at``."""

    wave: int
    attempt: int
    saga_id: str
    state: str
    line_count: int
    amount_minor: int
    charge_minor: int
    refusal: str | None
    due_at: datetime | None
    requested_at: datetime
    reserved_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAnswer:
    """A dividend run. Another person approves its ``lines_sha256``."""

    run_id: str
    year: int
    state: str
    saga_id: str | None
    dividend_ppm: int
    rebate_ppm: int
    dividend_tax_ppm: int
    rebate_tax_ppm: int
    provider: str
    short_code: str
    currency: str
    line_count: int
    gross_minor: int
    tax_minor: int
    net_minor: int
    lines_sha256: str
    regulator_reference: str
    meeting_reference: str
    proposed_by: str
    reason: str
    proposed_at: datetime
    approved_by: str | None
    approval_reason: str | None
    approved_at: datetime | None
    failure_reason: str | None
    closed_at: datetime | None
    sums: list[SumAnswer]
    waves: list[WaveAnswer]


@dataclass(frozen=True, slots=True, kw_only=True)
class LineAnswer:
    """What one member receives of a run."""

    line_id: str
    member_id: str
    kind: str
    destination: str
    gross_minor: int
    tax_minor: int
    net_minor: int
    state: str
    chunk: int | None
    wave: int | None
    saga_id: str | None
    receipt: str | None
    failure_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePage:
    """Lines in the order of their ids. Pass ``next`` as ``after`` for the next page; null: the last one."""

    lines: list[LineAnswer]
    next: str | None


routes = APIRouter(route_class=JsonRoute, prefix="/v1", responses=COMMON, tags=["dividends"])


@routes.post("/dividend-runs", status_code=201, responses=CHANGE)
def compute_run(body: RunBody, caller: Finance, resources: Resources, response: Response) -> RunAnswer:
    """Compute a run of a year from what members held. One that is not approved may be computed anew."""
    by = person(caller)
    with resources.engine.begin() as tx:
        known = dividend_tables.lock_runs(tx, [body.run_id]).get(body.run_id)
        if known is not None and known.state != dividend_tables.COMPUTED:
            raise decided("dividend run", known.state)
        if known is not None:
            dividend_tables.delete_computed(tx, body.run_id)
        run, lines = _computed(tx, body, by)
        if not dividend_tables.insert_run(tx, run, lines):
            raise decided("dividend run", "computed by another request")
        found = _answer(tx, _found(dividend_tables.find(tx, body.run_id), body.run_id))
    response.headers["Location"] = f"/v1/dividend-runs/{body.run_id}"
    return found


def _computed(tx: Connection, body: RunBody, by: str) -> tuple[dict[str, Any], list[Line]]:
    now = utc_now()
    way = next((each for each in ways(tx) if body.provider in (None, each.provider)), None)
    if way is None:
        raise invalid([FieldError(pointer="#/provider", detail="No short code of ours is open there.")])
    tariff = terms_tables.load_tariffs(tx).valid(now)
    rates = Rates(
        dividend_ppm=body.dividend_ppm,
        rebate_ppm=body.rebate_ppm,
        dividend_tax_ppm=tariff.dividend_tax_ppm,
        rebate_tax_ppm=tariff.rebate_tax_ppm,
        payout_min_minor=tariff.payout_min_minor,
        payout_max_minor=tariff.payout_max_minor,
    )
    payees = {
        row.member_id: Payee(destination=row.destination, status=AccountStatus(row.status))
        for row in member_tables.active(tx)
    }
    lines = lines_of(body.run_id, rates, dividend_tables.held(tx, body.year), payees)
    if not lines:
        detail = "No member has a line in it; check the year, the rates, and what members held."
        raise invalid([FieldError(pointer="#/year", detail=detail)])
    names = ("dividend_ppm", "rebate_ppm", "dividend_tax_ppm", "rebate_tax_ppm")
    run = {name: getattr(rates, name) for name in names} | asdict(way) | asdict(totals_of(lines))
    references = ("run_id", "year", "regulator_reference", "meeting_reference", "reason")
    run |= {name: getattr(body, name) for name in references}
    return run | {"proposed_by": by, "proposed_at": now}, lines


@routes.get("/dividend-runs", responses=COMMON)
def list_runs(_caller: StaffMember, resources: Resources) -> list[RunAnswer]:
    """Return the dividend runs, the newest first."""
    with resources.engine.begin() as tx:
        found = tx.execute(dividend_tables.RUNS, {"limit": RUNS_MAX}).all()
        return [_answer(tx, row) for row in found]


@routes.get("/dividend-runs/{run_id}", responses=ONE)
def read_run(run_id: RunPath, _caller: StaffMember, resources: Resources) -> RunAnswer:
    """Return a dividend run, with its lines by state and destination, and its waves."""
    with resources.engine.begin() as tx:
        return _answer(tx, _found(dividend_tables.find(tx, run_id), run_id))


@routes.get("/dividend-runs/{run_id}/lines", responses=ONE)
def list_lines(
    run_id: RunPath,
    _caller: StaffMember,
    resources: Resources,
    state: Annotated[str | None, Query(pattern=r"^[A-Z]{1,20}$")] = None,
    after: After = "",
    limit: Limit = 100,
) -> LinePage:
    """Return a page of a run's lines."""
    with resources.engine.begin() as tx:
        _found(dividend_tables.find(tx, run_id), run_id)
        values = {"run_id": run_id, "state": state, "after": after, "limit": limit + 1}
        found = tx.execute(dividend_tables.PAGE, values).all()
    names = LineAnswer.__dataclass_fields__
    shown = [LineAnswer(**{name: getattr(row, name) for name in names}) for row in found[:limit]]
    return LinePage(lines=shown, next=shown[-1].line_id if len(found) > limit else None)


@routes.post("/dividend-runs/{run_id}/approval", status_code=202, responses=CHANGE)
def approve_run(run_id: RunPath, body: ApprovalBody, caller: Approver, resources: Resources, trace: Trace) -> RunAnswer:
    """Approve a run on the hash of its lines, as another person computed it. The saga that declares it begins."""
    now = utc_now()
    with resources.engine.begin() as tx:
        run = _locked(tx, run_id)
        by = check_second(run.proposed_by, caller)
        if run.state != dividend_tables.COMPUTED:
            raise decided("dividend run", run.state)
        _check_hash(tx, run, body.lines_sha256)
        saga_id = new_id()
        values = {"run_id": run_id, "saga_id": saga_id, "by": by, "reason": body.reason, "at": now}
        if tx.execute(dividend_tables.APPROVE, values).rowcount != 1:
            raise decided("dividend run", run.state)
        rows = save_events(tx, [_approved(run, saga_id, by, now)], resources.codec, trace)
        answer = _answer(tx, _found(dividend_tables.find(tx, run_id), run_id))
    resources.batcher.publish(rows)
    return answer


def _check_hash(tx: Connection, run: RunRow, sent: str) -> None:
    """Raise Problem (409) unless the hash that was sent is that of the lines as they are stored now."""
    if not sent == run.lines_sha256 == hash_of(dividend_tables.lines(tx, run.run_id)):
        raise Problem(
            status=409,
            title="The lines have another hash",
            detail="The lines are not those that you looked at; read the run again, and compare.",
            type="urn:baraza:problem:lines-changed",
        )


def _approved(run: RunRow, saga_id: str, by: str, now: datetime) -> DividendRunApproved:
    return DividendRunApproved(
        **beginning(saga_id, "dividend_run", now),
        run_id=run.run_id,
        currency=run.currency,
        gross_minor=run.gross_minor,
        tax_minor=run.tax_minor,
        lines=run.line_count,
        lines_sha256=run.lines_sha256,
        regulator_reference=run.regulator_reference,
        meeting_reference=run.meeting_reference,
        proposed_by=run.proposed_by,
        approved_by=by,
        reason=run.reason,
    )


@routes.post("/dividend-runs/{run_id}/refusal", responses=CHANGE)
def refuse_run(run_id: RunPath, body: ReasonBody, caller: Decider, resources: Resources) -> RunAnswer:
    """Refuse a run that is not approved."""
    person(caller)
    with resources.engine.begin() as tx:
        run = _locked(tx, run_id)
        values = {"run_id": run_id, "reason": body.reason, "at": utc_now()}
        if tx.execute(dividend_tables.REFUSE, values).rowcount != 1:
            raise decided("dividend run", run.state)
        return _answer(tx, _found(dividend_tables.find(tx, run_id), run_id))


def _locked(tx: Connection, run_id: str) -> RunRow:
    return _found(dividend_tables.lock_runs(tx, [run_id]).get(run_id), run_id)


def _found(row: RunRow | None, run_id: str) -> RunRow:
    if row is None:
        raise Problem(status=404, detail=f"There is no dividend run {run_id}; check its id.")
    return row


def _answer(tx: Connection, row: RunRow) -> RunAnswer:
    sums = [
        SumAnswer(**{name: getattr(each, name) for name in SumAnswer.__dataclass_fields__})
        for each in tx.execute(dividend_tables.SUMS, {"run_id": row.run_id})
    ]
    waves = [
        WaveAnswer(**{name: getattr(each, name) for name in WaveAnswer.__dataclass_fields__})
        for each in dividend_tables.waves(tx, row.run_id)
    ]
    names = [name for name in RunAnswer.__dataclass_fields__ if name not in ("sums", "waves")]
    return RunAnswer(**{name: getattr(row, name) for name in names}, sums=sums, waves=waves)
