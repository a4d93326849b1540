"""Entering balances over HTTP: movements under an idempotency key, opening balances, and a balance set by condition.

Inventory and loyalty share it. A request is one transaction: all of its items change, or none does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Protocol, TypeAlias

from fastapi import Header
from sqlalchemy import Connection

from chassis.http.problem import ERRORS_MAX, FieldError, Problem, invalid
from chassis.values.movements import Balance, Movement, MovementKind, overdrawn
from chassis.wire.envelope import new_id

KEY_LENGTH_MAX: Final = 128
OPENING_REASON: Final = "Opening balance."
SET_REASON: Final = "Set to a counted number, by a request with If-Match."

MovementKey: TypeAlias = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=KEY_LENGTH_MAX,
        pattern=r"^[!-~]+$",
        description="Chosen by the client, one for each delivery or count. The same key moves a balance once.",
    ),
]
IfMatch: TypeAlias = Annotated[str | None, Header(alias="If-Match", max_length=64)]


class MovementTables(Protocol):
    """The statements of a service on its balances and their movements; its module ``tables`` has these functions."""

    def lock_key(self, tx: Connection, made_by: str, key: str) -> None: ...

    def load_movements(self, tx: Connection, made_by: str, key: str) -> Mapping[str, Movement]: ...

    def open_balances(self, tx: Connection, made_by: str, units: Mapping[str, int], reason: str) -> None: ...

    def lock_balances(self, tx: Connection, items: Iterable[str]) -> Mapping[str, Balance]: ...

    def add_movements(self, tx: Connection, made_by: str, key: str, movements: Mapping[str, Movement]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """The balances after a request. With ``is_replay`` an earlier request under the key had moved them."""

    balances: Mapping[str, Balance]
    is_replay: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the response."""
        return {"Idempotent-Replayed": "true"} if self.is_replay else {}


def record(
    tx: Connection, tables: MovementTables, made_by: str, key: str, movements: Mapping[str, Movement], *, field: str
) -> Entered:
    """Record the movements by item, once for each key. Raises the Problem of a request that cannot be recorded.

    1. Lock the key, so that two requests under it come one after the other.
    2. Under a key that was used, the same movements are a replay, and others are refused.
    3. Lock the balances, and refuse what is not known and what would become negative.
    4. Add the movements.
    """
    # 1.
    tables.lock_key(tx, made_by, key)
    # 2.
    earlier = tables.load_movements(tx, made_by, key)
    if earlier and earlier != movements:
        raise Problem(
            status=422,
            title="The key was used for another body",
            detail="This Idempotency-Key was used for other movements; send new movements with a new key.",
            type="urn:baraza:problem:idempotency-mismatch",
        )
    # 3.
    balances = tables.lock_balances(tx, movements)
    if earlier:
        return Entered(balances=balances, is_replay=True)
    missing = [item for item in movements if item not in balances]
    if missing:
        raise invalid(_errors(movements, dict.fromkeys(missing, "Not known; open its balance first."), field))
    short = overdrawn(movements, balances)
    if short:
        raise _short(movements, short, field)
    # 4.
    tables.add_movements(tx, made_by, key, movements)
    return Entered(balances=tables.lock_balances(tx, movements))


def opened(tx: Connection, tables: MovementTables, made_by: str, units: Mapping[str, int]) -> Entered:
    """Open the balances that are not known yet; a known one stays as it is, so that a repeated load changes nothing."""
    tables.open_balances(tx, made_by, units, OPENING_REASON)
    return Entered(balances=tables.lock_balances(tx, units))


def set_balances(
    tx: Connection, tables: MovementTables, made_by: str, units: Mapping[str, int], if_match: str | None, *, field: str
) -> None:
    """Open the balances that are not known, and set one that is known if it is at the version that was read.

    Without a condition a request that would overwrite a known balance is refused: it would undo, unseen, what orders
    have taken or given back since the caller read it.
    """
    if if_match is not None and len(units) != 1:
        detail = "If-Match is the version of one balance; send one item in a request, or movements for several."
        raise invalid([FieldError(pointer="header:If-Match", detail=detail)])
    if if_match is not None:
        _check_version(if_match, next(iter(tables.lock_balances(tx, units).values()), None))
    tables.open_balances(tx, made_by, units, OPENING_REASON)
    found = tables.lock_balances(tx, units)
    changed = {item: _counted(units[item] - each.free) for item, each in found.items() if each.free != units[item]}
    if not changed:
        return
    if if_match is None:
        raise _unconditional(units, {item: found[item] for item in changed}, field)
    tables.add_movements(tx, made_by, f"put-{new_id()}", changed)


def etag(balance: Balance) -> str:
    """Return the entity tag of a balance, which changes with every movement and every order that touches it."""
    return f'"{balance.version}"'


def _counted(units: int) -> Movement:
    return Movement(kind=MovementKind.COUNTED, units=units, reason=SET_REASON)


def _check_version(if_match: str, balance: Balance | None) -> None:
    # "*" names no version, so it would overwrite whatever orders have changed.
    if balance is not None and etag(balance) in [each.strip() for each in if_match.split(",")]:
        return
    raise Problem(
        status=412,
        title="The balance has changed",
        detail="It is not at the version that you read; read it again, and count again or send the difference.",
        type="urn:baraza:problem:stale",
        headers={} if balance is None else {"ETag": etag(balance)},
    )


def _unconditional(units: Mapping[str, int], changed: Mapping[str, Balance], field: str) -> Problem:
    details = {
        item: f"{balance.free} are free, {units[item]} would overwrite them." for item, balance in changed.items()
    }
    errors = _errors(units, details, field)
    return Problem(
        status=428,
        title="A known balance is not overwritten without a condition",
        detail=(
            f"{errors[0].pointer}: {errors[0].detail} Orders may have changed it since you read it: POST the difference"
            " as a movement under an Idempotency-Key, or PUT one item with the ETag of its GET as If-Match."
        ),
        type="urn:baraza:problem:condition-required",
        extra={"errors": [error.to_json() for error in errors]},
    )


def _short(movements: Mapping[str, Movement], short: Mapping[str, Balance], field: str) -> Problem:
    details = {
        item: f"Only {balance.free} are free, so {-movements[item].units} cannot be taken out."
        for item, balance in short.items()
    }
    errors = _errors(movements, details, field)
    return Problem(
        status=409,
        title="Orders hold more than would be left",
        detail=f"{errors[0].pointer}: {errors[0].detail} Cancel orders first, or send a smaller number.",
        type="urn:baraza:problem:overdrawn",
        extra={"errors": [error.to_json() for error in errors]},
    )


def _errors(items: Iterable[str], details: Mapping[str, str], field: str) -> Sequence[FieldError]:
    return [
        FieldError(pointer=f"#/{index}/{field}", detail=details[item])
        for index, item in enumerate(items)
        if item in details
    ][:ERRORS_MAX]
