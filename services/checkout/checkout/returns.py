"""The rules for returns: what of an order may be returned, until when, and what comes back for it. Pure."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Final

from pydantic import Field

from chassis.http.fields import SKU_LENGTH_MAX, ShortTextShape, SkuText
from chassis.saga.triggers import StepRequest
from chassis.values.remark import remark
from chassis.values.text import identifier
from checkout.domain import LINES_MAX, QUANTITY_MAX, OrderState, PricedLine
from checkout.fields import CONFIG, INTEGER_MAX, Refusal, ShipTo, check_address, integer_limits
from messages.checkout import ReturnWithdrawn, WithdrawReturn
from messages.contract import Envelope

APPROVE_RETURN: Final = "approve_return"
"""The name of the step."""
WINDOW: Final = timedelta(days=30)
"""How long after its confirmation an order may be returned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnLine:
    """Pieces of one product of the order."""

    __pydantic_config__ = CONFIG

    sku: SkuText
    quantity: Annotated[
        int, Field(strict=True, ge=-INTEGER_MAX, le=INTEGER_MAX, json_schema_extra=integer_limits(1, QUANTITY_MAX))
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnBody:
    """A return as the customer sends it. Only its shape is checked: :func:`check_return` applies the rules."""

    __pydantic_config__ = CONFIG

    lines: Annotated[tuple[ReturnLine, ...], Field(max_length=LINES_MAX, json_schema_extra={"minItems": 1})]
    collect_from: ShipTo
    reason: ShortTextShape | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedReturn:
    """A return in its normal form, and what its fields are refused for. Needs no order."""

    lines: tuple[tuple[str, int], ...]
    collect_from: ShipTo
    reason: str
    refusals: tuple[Refusal, ...]


class Reason(enum.StrEnum):
    """Why a return is refused."""

    NOT_CONFIRMED = "not_confirmed"
    OUTSIDE_WINDOW = "outside_window"
    NOT_BOUGHT = "not_bought"
    ALREADY_RETURNED = "already_returned"


class ReturnState(enum.StrEnum):
    """The state of a return as its customer sees it. A refused or withdrawn one ends as FAILED, with the reason."""

    REQUESTED = "REQUESTED"
    APPROVED = "APPROVED"
    REFUSED = "REFUSED"
    WITHDRAWN = "WITHDRAWN"
    ARRIVED = "ARRIVED"
    """The parcel ended with the courier: it arrived, or it is lost and the courier answers for it."""
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


COUNTED: Final = frozenset({ReturnState.APPROVED, ReturnState.ARRIVED, ReturnState.COMPLETED})
"""The states in which a return's pieces cannot be returned once more."""
CANCELLABLE: Final = frozenset({ReturnState.REQUESTED, ReturnState.APPROVED})
"""The states in which a cancellation may still come in time; the courier knows whether it does."""


class OrderMissing(LookupError):
    """A return names an order that is not there. After a restore, enter the order again and redrive the return."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """What comes back: to the card, the part of the price that points had paid, and those points."""

    refund_minor: int = 0
    points_minor: int = 0
    points: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        """Return the sums."""
        return Amounts(
            refund_minor=self.refund_minor + other.refund_minor,
            points_minor=self.points_minor + other.points_minor,
            points=self.points + other.points,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedOrder:
    """An order as its returns need it. ``decided_at`` is when it was confirmed, if it was."""

    order_id: str
    customer_id: str
    state: OrderState
    currency: str
    lines: tuple[PricedLine, ...]
    points_to_burn: int
    total_minor: int
    payable_minor: int
    decided_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedReturn:
    """A return of an order in one of the states :data:`COUNTED`.

    ``received`` are the pieces that arrived, by sku; None where that is not known yet, or where the courier lost them
    and answers for all.
    """

    lines: tuple[PricedLine, ...]
    received: Mapping[str, int] | None
    amounts: Amounts

    @property
    def pieces(self) -> dict[str, int]:
        """The pieces that count as returned, by sku."""
        if self.received is None:
            return {line.sku: line.quantity for line in self.lines}
        return {line.sku: min(line.quantity, self.received.get(line.sku, 0)) for line in self.lines}

    @property
    def gross_minor(self) -> int:
        """The price of these pieces."""
        pieces = self.pieces
        return sum(pieces[line.sku] * line.unit_price_minor for line in self.lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnRefusal:
    """One reason to refuse a return. ``path`` leads to the field of the request, and is empty for the whole order."""

    reason: Reason
    path: tuple[str | int, ...]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproveReturn(StepRequest):
    """Approve that these pieces of an order are returned; each line is a sku and a quantity."""

    order_id: str
    lines: tuple[tuple[str, int], ...]
    reason: str
    requested_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedReturn:
    """A return that checkout approved or refused, as it is stored."""

    return_id: str
    order: PlacedOrder
    state: ReturnState
    lines: tuple[PricedLine, ...]
    amounts: Amounts
    reason: str
    requested_at: datetime
    approved_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedApproval:
    """What checkout has published of an approval."""

    lines: tuple[PricedLine, ...]
    amounts: Amounts
    approved_at: datetime


@dataclass(slots=True)
class OrderReturns:
    """The orders of a batch with what counts as returned of them, changed in memory; ``decided`` is what to save."""

    orders: Mapping[str, PlacedOrder]
    counted: dict[str, list[CountedReturn]] = field(default_factory=dict)
    decided: list[DecidedReturn] = field(default_factory=list)


@dataclass(slots=True)
class Withdrawals:
    """The returns whose approval a batch withdraws."""

    return_ids: list[str] = field(default_factory=list)


def check_return(body: ReturnBody, bought: Collection[str]) -> CheckedReturn:
    """Apply the rules that need nothing but the body. ``bought`` has the order's skus, some in no normal form."""
    lines = tuple((_sku_of(line.sku, bought), line.quantity) for line in body.lines)
    collect_from, of_address = check_address(body.collect_from, "collect_from")
    refusals = [*_of_lines(lines), *of_address]
    reason = ""
    if body.reason is not None and body.reason.strip():
        try:
            reason = remark(body.reason)
        except ValueError as error:
            refusals.append(Refusal(path=("reason",), detail=f"{error}."))
    return CheckedReturn(lines=lines, collect_from=collect_from, reason=reason, refusals=tuple(refusals))


def _sku_of(sku: str, bought: Collection[str]) -> str:
    """Return the sku as the order has it, or as it is."""
    try:
        return sku if sku in bought else identifier(sku, length_max=SKU_LENGTH_MAX)
    except ValueError:
        return sku


def _of_lines(lines: Sequence[tuple[str, int]]) -> Iterator[Refusal]:
    if not lines:
        yield Refusal(path=("lines",), detail="No lines; a return has at least one.")
    first_of: dict[str, int] = {}
    for number, (sku, quantity) in enumerate(lines):
        named = f"Line {number + 1} (sku {sku!r})"
        first = first_of.setdefault(sku, number)
        if first != number:
            detail = f"{named} repeats line {first + 1}; send one line with the sum."
            yield Refusal(path=("lines", number, "sku"), detail=detail)
        if quantity < 1:
            detail = f"{named}: quantity {quantity}; send at least 1."
            yield Refusal(path=("lines", number, "quantity"), detail=detail)


def approve(request: ApproveReturn, rows: OrderReturns, envelope: Envelope) -> DecidedReturn | ReturnRefusal:
    """Approve a return with what comes back for it, or refuse it. Raises OrderMissing."""
    order = _order_of(request, rows)
    counted = rows.counted.setdefault(order.order_id, [])
    refusal = next(refusals_of(order, counted, request.lines, at=request.requested_at), None)
    lines = priced(order, request.lines)
    amounts = Amounts() if refusal else amounts_of(order, counted, lines)
    decided = DecidedReturn(
        return_id=request.saga_id,
        order=order,
        state=ReturnState.REFUSED if refusal else ReturnState.APPROVED,
        lines=lines,
        amounts=amounts,
        reason=request.reason,
        requested_at=request.requested_at,
        approved_at=None if refusal else envelope["occurred_at"],
    )
    rows.decided.append(decided)
    if refusal:
        return refusal
    counted.append(CountedReturn(lines=lines, received=None, amounts=amounts))
    return decided


def restore_approval(request: ApproveReturn, rows: OrderReturns, published: PublishedApproval) -> DecidedReturn:
    """Take over an approval as it was published: other returns may count otherwise now. Raises OrderMissing.

    A parcel that arrived short before the approval counts as a whole until its arrival is read again.
    """
    decided = DecidedReturn(
        return_id=request.saga_id,
        order=_order_of(request, rows),
        state=ReturnState.APPROVED,
        lines=published.lines,
        amounts=published.amounts,
        reason=request.reason,
        requested_at=request.requested_at,
        approved_at=published.approved_at,
    )
    rows.decided.append(decided)
    return decided


def _order_of(request: ApproveReturn, rows: OrderReturns) -> PlacedOrder:
    order = rows.orders.get(request.order_id)
    if order is None:
        raise OrderMissing(f"Return {request.saga_id} is of order {request.order_id}, which is not there.")
    return order


def withdraw(command: WithdrawReturn, undo: bool, rows: Withdrawals, envelope: Envelope) -> ReturnWithdrawn:
    """Withdraw an approval, so that the pieces may be returned again. Without ``undo`` there is none any more."""
    if undo:
        rows.return_ids.append(command.saga_id)
    return ReturnWithdrawn(**envelope, step=command.step, undone=undo)


def refusals_of(
    order: PlacedOrder, counted: Sequence[CountedReturn], lines: Sequence[tuple[str, int]], *, at: datetime
) -> Iterator[ReturnRefusal]:
    """Yield every reason to refuse a return that was requested at that time."""
    if order.state is not OrderState.CONFIRMED or order.decided_at is None:
        detail = "Only a confirmed order can be returned; read the order, and cancel it while it is PENDING."
        yield ReturnRefusal(reason=Reason.NOT_CONFIRMED, path=(), detail=detail)
        return
    if at > (until := order.decided_at + WINDOW):
        detail = (
            f"The order could be returned until {until:%Y-%m-%d %H:%M} UTC, {WINDOW.days} days after it was confirmed; "
            f"keep the pieces."
        )
        yield ReturnRefusal(reason=Reason.OUTSIDE_WINDOW, path=(), detail=detail)
        return
    bought = {line.sku: line.quantity for line in order.lines}
    returned: Counter[str] = Counter()
    for each in counted:
        returned.update(each.pieces)
    for number, (sku, quantity) in enumerate(lines):
        named = f"Line {number + 1} (sku {sku!r})"
        left = bought.get(sku, 0) - returned[sku]
        if sku not in bought:
            detail = f"{named}: not in the order; remove the line."
            yield ReturnRefusal(reason=Reason.NOT_BOUGHT, path=("lines", number, "sku"), detail=detail)
        elif quantity > bought[sku]:
            detail = f"{named}: quantity {quantity}, but {bought[sku]} were bought; send at most {left}."
            yield ReturnRefusal(reason=Reason.NOT_BOUGHT, path=("lines", number, "quantity"), detail=detail)
        elif quantity > left:
            detail = (
                f"{named}: quantity {quantity}, but {returned[sku]} of {bought[sku]} are returned already; "
                f"{f'send at most {left}' if left else 'remove the line'}."
            )
            yield ReturnRefusal(reason=Reason.ALREADY_RETURNED, path=("lines", number, "quantity"), detail=detail)


def priced(order: PlacedOrder, lines: Sequence[tuple[str, int]]) -> tuple[PricedLine, ...]:
    """Return the lines with the order's prices, without those that are not in it."""
    prices = {line.sku: line.unit_price_minor for line in order.lines}
    return tuple(
        PricedLine(sku=sku, quantity=quantity, unit_price_minor=prices[sku]) for sku, quantity in lines if sku in prices
    )


def amounts_of(order: PlacedOrder, counted: Sequence[CountedReturn], lines: Sequence[PricedLine]) -> Amounts:
    """Return what comes back for these pieces, after the returns that count already.

    All returns together give back the pieces' part of what was paid, rounded down. Each gives back what is missing to
    that, so that all pieces give back exactly what was paid, however the order is split.
    """
    before = sum([each.amounts for each in counted], Amounts())
    gross_minor = sum(each.gross_minor for each in counted)
    gross_minor += sum(line.quantity * line.unit_price_minor for line in lines)
    refund_minor = max(0, order.payable_minor * gross_minor // order.total_minor - before.refund_minor)
    paid_by_points_minor = gross_minor - before.refund_minor - refund_minor
    return Amounts(
        refund_minor=refund_minor,
        points_minor=max(0, paid_by_points_minor - before.points_minor),
        points=max(0, order.points_to_burn * gross_minor // order.total_minor - before.points),
    )


def return_message_of(state: ReturnState, *, is_cancellation_requested: bool) -> str:
    """Return the message for the customer. It states only what is certain."""
    match state:
        case ReturnState.COMPLETED:
            return "return completed"
        case ReturnState.ARRIVED:
            return "parcel accounted for, refund under way"
        case ReturnState.REFUSED | ReturnState.WITHDRAWN | ReturnState.FAILED:
            return "return cancelled, nothing of it is refunded"
        case ReturnState.REQUESTED | ReturnState.APPROVED if is_cancellation_requested:
            return "return received, cancellation requested"
        case ReturnState.REQUESTED:
            return "return received, checking"
        case ReturnState.APPROVED:
            return "return approved, the parcel is collected"
