"""Members' HTTP API for terms: tariffs, allocation policies and our short codes. They are data with dates."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path

from chassis.http.json_body import JsonRoute
from chassis.http.people import person
from chassis.http.problem import FieldError, Problem, invalid
from members import terms_tables
from members.access import Finance, Operator, Reader
from members.bodies import PolicyBody, ShortCodeBody, TariffBody
from members.endpoints import CHANGE, COMMON, Resources
from members.terms import Policy, Tariff
from members.terms_tables import ShortCode

LOAN_PARTS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffAnswer:
    """A tariff."""

    valid_from: datetime
    terms: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyAnswer:
    """A version of an allocation policy."""

    name: str
    version: int
    valid_from: datetime
    loan_order: list[str]
    targets: list[dict[str, Any]]


routes = APIRouter(route_class=JsonRoute, prefix="/v1", responses=COMMON, tags=["terms"])


@routes.get("/tariffs", responses=COMMON)
def list_tariffs(_caller: Reader, resources: Resources) -> list[TariffAnswer]:
    """Return all tariffs, the first one first."""
    with resources.engine.begin() as tx:
        return [_tariff(each) for each in terms_tables.load_tariffs(tx).versions]


@routes.post("/tariffs", status_code=201, responses=CHANGE)
def enter_tariff(body: TariffBody, caller: Finance, resources: Resources) -> TariffAnswer:
    """Enter a tariff that is valid from a time on, until a later one."""
    terms = {name: value for name, value in asdict(body).items() if name != "valid_from"}
    terms |= {name: list(terms[name]) for name in ("withdrawal_bands", "payout_bands")}
    with resources.engine.begin() as tx:
        if not terms_tables.insert_tariff(tx, valid_from=body.valid_from, terms=terms, entered_by=person(caller)):
            raise Problem(
                status=409,
                title="There is a tariff",
                detail="A tariff is valid from that time on; enter one from another time on.",
                type="urn:baraza:problem:tariff-exists",
            )
    return TariffAnswer(valid_from=body.valid_from, terms=terms)


@routes.get("/policies", responses=COMMON)
def list_policies(_caller: Reader, resources: Resources) -> list[PolicyAnswer]:
    """Return every version of every allocation policy."""
    with resources.engine.begin() as tx:
        return [_policy(each) for each in terms_tables.load_policies(tx).versions]


@routes.post("/policies", status_code=201, responses=COMMON)
def enter_policy(body: PolicyBody, caller: Finance, resources: Resources) -> PolicyAnswer:
    """Enter another version of a policy. Receipts whose value date is earlier keep the version before it."""
    if len(set(body.loan_order)) != LOAN_PARTS:
        raise invalid([FieldError(pointer="#/loan_order", detail="Each part of a loan stands in it once.")])
    last = body.targets[-1]
    if last.kind == "LOAN" or last.limit_minor is not None:
        detail = "The last target is an account without a limit: it receives what is left."
        raise invalid([FieldError(pointer=f"#/targets/{len(body.targets) - 1}", detail=detail)])
    targets = [asdict(each) for each in body.targets]
    with resources.engine.begin() as tx:
        version = terms_tables.insert_policy(
            tx,
            name=body.name,
            valid_from=body.valid_from,
            loan_order=list(body.loan_order),
            targets=targets,
            entered_by=person(caller),
        )
    return PolicyAnswer(
        name=body.name,
        version=version,
        valid_from=body.valid_from,
        loan_order=list(body.loan_order),
        targets=targets,
    )


@routes.get("/short-codes", responses=COMMON)
def list_short_codes(_caller: Reader, resources: Resources) -> list[ShortCode]:
    """Return our short codes, the preferred one first."""
    with resources.engine.begin() as tx:
        return list(terms_tables.load_short_codes(tx))


@routes.put("/short-codes/{short_code}", responses=COMMON)
def put_short_code(
    short_code: Annotated[str, Path(pattern=r"^[0-9]{5,7}$")],
    body: ShortCodeBody,
    _caller: Operator,
    resources: Resources,
) -> ShortCode:
    """Enter a short code, or change it. A closed one is used for nothing new."""
    new = ShortCode(
        short_code=short_code, provider=body.provider, currency=body.currency, is_open=body.is_open, rank=body.rank
    )
    with resources.engine.begin() as tx:
        terms_tables.put_short_code(tx, new)
    return new


def _tariff(tariff: Tariff) -> TariffAnswer:
    return TariffAnswer(
        valid_from=tariff.valid_from,
        terms={name: value for name, value in asdict(tariff).items() if name != "valid_from"},
    )


def _policy(policy: Policy) -> PolicyAnswer:
    return PolicyAnswer(
        name=policy.name,
        version=policy.version,
        valid_from=policy.valid_from,
        loan_order=list(policy.loan_order),
        targets=[asdict(each) for each in policy.targets],
    )
