"""Risk's HTTP API for staff: block lists, the rules, the dry run of a payment, and what was decided."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, Engine, Row

from chassis.http.auth import Principal, require
from chassis.http.fields import Currency, Remark, ShortText, Time
from chassis.http.json_body import JsonRoute
from chassis.http.problem import PROBLEM_RESPONSES, FieldError, Problem, invalid
from chassis.postgres.transient import utc_now
from chassis.process import service
from chassis.process.service import Dependencies
from risk import lists
from risk.domain import BlockKind, Decision, ValidatePayment, decided
from risk.rule_sets import HISTORY, RuleSets, VersionTaken
from risk.rules import InvalidRules
from risk.tables import load_windows

READING = (400, 401, 403, 422, 500, 503)
WRITING = (400, 401, 403, 413, 415, 422, 500, 503)
ID_MAX = 2**63 - 1
VERSIONS_MAX = 50

Staff = Annotated[Principal, Depends(require("operator", "support"))]
Operator = Annotated[Principal, Depends(require("operator"))]
PaymentId = Annotated[str, Path(pattern=r"^[1-9][0-9]{0,18}$", description="The payment's number.")]


class BlockEntry(BaseModel):
    """What is put on a block list, or taken off it, and why. The reason is kept for good."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: BlockKind
    value: ShortText
    reason: Remark


class BlockAnswer(BaseModel):
    """An entry of a block list. It is active while ``removed_at`` is null."""

    id: int
    kind: BlockKind
    value: str
    reason: str
    added_by: str
    added_at: datetime
    removed_by: str | None
    removed_at: datetime | None
    removal_reason: str | None


class BlockPage(BaseModel):
    """A page of block-list entries, the newest first; request the next one with ``before=next_before``."""

    blocks: list[BlockAnswer]
    next_before: int | None


class Reload(BaseModel):
    """Why the rules are read again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: Remark


class RulesVersion(BaseModel):
    """A stored version of the rules."""

    version: str
    reason: str
    stored_by: str
    stored_at: datetime


class RulesAnswer(BaseModel):
    """The active rules, and the versions that were stored, the newest first. ``rules`` null: not readable here."""

    version: str
    on_undecided: str
    rules: dict[str, Any] | None
    versions: list[RulesVersion]


class TriedPayment(BaseModel):
    """A payment that is decided about, and is neither counted nor stored. Without a time it is submitted now."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    merchant_id: ShortText
    is_live: bool
    currency: Currency
    amount_minor: int = Field(strict=True, ge=1, le=ID_MAX)
    payment_method: ShortText
    payer: ShortText
    gateway_account: ShortText = "dry-run"
    capture: Literal["NOW", "LATER"] = "NOW"
    submitted_at: Time | None = None

    def request(self, now: datetime) -> ValidatePayment:
        """Return it as the step gets it."""
        fields = self.model_dump(exclude={"submitted_at"})
        return ValidatePayment(saga_id="", step="", payment_id=0, submitted_at=self.submitted_at or now, **fields)


class DecisionAnswer(BaseModel):
    """What was decided, or would be."""

    outcome: Literal["VALIDATED", "BLOCKED"]
    reason: str | None
    detail: str
    score: int
    signals: list[str]
    rules_version: str


class StoredDecision(DecisionAnswer):
    """What was decided about a payment. ``state`` is whether it still counts."""

    payment_id: str
    saga_id: str
    merchant_id: str
    is_live: bool
    currency: str
    amount_minor: int
    submitted_at: datetime
    state: str


def routes(engine: Engine, rules: RuleSets) -> APIRouter:
    """Return the routes."""
    router = APIRouter(route_class=JsonRoute)
    _add_block_routes(router, engine)
    _add_rule_routes(router, engine, rules)

    @router.post("/v1/dry-runs", responses=responses(*WRITING), tags=["decisions"])
    def post_dry_run(body: TriedPayment, caller: Staff) -> DecisionAnswer:
        """Decide about a payment by the active rules and the counters as they are. Nothing is stored or counted."""
        request = body.request(utc_now())
        with engine.begin() as tx:
            return _answer(decided(request, load_windows(rules, [request], tx)))

    @router.get("/v1/decisions/{payment_id}", responses=responses(*READING, 404), tags=["decisions"])
    def get_decision(payment_id: PaymentId, caller: Staff) -> StoredDecision:
        """Return what was decided about a payment, with its reasons and the version of the rules."""
        if int(payment_id) > ID_MAX:
            raise Problem(status=404, detail=f"There is no payment {payment_id}.")
        with engine.connect() as tx:
            found = lists.decision(tx, int(payment_id))
        if found is None:
            raise Problem(status=404, detail=f"Nothing was decided about a payment {payment_id}.")
        return _stored(found)

    return router


BLOCKED_ALREADY: dict[int | str, dict[str, Any]] = {
    200: {"model": BlockAnswer, "description": "It is blocked already."}
}


def _add_block_routes(router: APIRouter, engine: Engine) -> None:
    @router.get("/v1/blocks", responses=responses(*READING), tags=["block lists"])
    def get_blocks(
        caller: Staff,
        kind: BlockKind | None = None,
        with_removed: bool = False,
        before: Annotated[int, Query(ge=1, le=ID_MAX)] = ID_MAX,
        limit: Annotated[int, Query(ge=1, le=lists.PAGE_MAX)] = 100,
    ) -> BlockPage:
        """Return the entries of the block lists."""
        with engine.connect() as tx:
            found = lists.page(tx, kind=kind, with_removed=with_removed, before=before, limit=limit + 1)
        more = found[limit - 1].id if len(found) > limit else None
        return BlockPage(blocks=[_block(row) for row in found[:limit]], next_before=more)

    @router.post("/v1/blocks", status_code=201, responses=responses(*WRITING) | BLOCKED_ALREADY, tags=["block lists"])
    def post_block(body: BlockEntry, caller: Operator, response: Response) -> BlockAnswer:
        """Block a payer, a merchant, or a type of payment method. One that is blocked already stays as it is (200)."""
        with engine.begin() as tx:
            found, is_new = lists.add(tx, kind=body.kind, value=body.value, reason=body.reason, added_by=caller.actor)
        response.status_code = 201 if is_new else 200
        return _block(found)

    @router.post("/v1/blocks/removals", responses=responses(*WRITING, 404), tags=["block lists"])
    def post_removal(body: BlockEntry, caller: Operator) -> BlockAnswer:
        """Remove an entry. It stays in the history, with who removed it and why."""
        with engine.begin() as tx:
            found = lists.remove(tx, kind=body.kind, value=body.value, reason=body.reason, removed_by=caller.actor)
        if found is None:
            raise Problem(status=404, detail=f"This {body.kind.replace('_', ' ')} is on no block list.")
        return _block(found)


def _add_rule_routes(router: APIRouter, engine: Engine, rules: RuleSets) -> None:
    @router.get("/v1/rules", responses=responses(*READING), tags=["rules"])
    def get_rules(caller: Staff) -> RulesAnswer:
        """Return the active rules and the history of the versions."""
        with engine.begin() as tx:
            return _rules(tx, rules)

    @router.post("/v1/rules/reload", responses=responses(*WRITING, 409), tags=["rules"])
    def post_reload(body: Reload, caller: Operator) -> RulesAnswer:
        """Read the file of the rules again, for every process. A file that is not valid changes nothing (422)."""
        try:
            with engine.begin() as tx:
                rules.reload(tx, reason=body.reason, stored_by=caller.actor)
                return _rules(tx, rules)
        except InvalidRules as error:
            raise invalid([FieldError(pointer=field, detail=what) for field, what in error.errors]) from error
        except VersionTaken as error:
            raise Problem(status=409, detail=str(error)) from error


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the declarations of these problems."""
    return {status: PROBLEM_RESPONSES[status] for status in statuses}


def _rules(tx: Connection, rules: RuleSets) -> RulesAnswer:
    active = rules.active(tx)
    versions = [RulesVersion(**row._mapping) for row in tx.execute(HISTORY, {"limit": VERSIONS_MAX})]
    document = None if active.rules is None else active.rules.document.model_dump(mode="json")
    return RulesAnswer(version=active.version, on_undecided=active.on_undecided, rules=document, versions=versions)


def _block(row: Row[Any]) -> BlockAnswer:
    return BlockAnswer(**row._mapping)


def _answer(found: Decision) -> DecisionAnswer:
    return DecisionAnswer(
        outcome="BLOCKED" if found.is_blocked else "VALIDATED",
        reason=found.reason,
        detail=found.detail,
        score=found.score,
        signals=list(found.signals),
        rules_version=found.rules_version,
    )


def _stored(row: Row[Any]) -> StoredDecision:
    fields = dict(row._mapping) | {"payment_id": str(row.payment_id)}
    return StoredDecision(outcome="VALIDATED" if row.reason is None else "BLOCKED", **fields)


def application(dependencies: Dependencies, rules: RuleSets) -> FastAPI:
    """Return the API."""
    return service.api("Risk", dependencies, routes(dependencies.engine, rules))
