"""The rules for a cart: its shape, its price, and every reason to refuse it as an order. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import ConfigDict, Field

from chassis.http.fields import Country, Currency, CustomerId, Phone, PostalCode, ShortText, Sku
from chassis.values.address import missing_parts
from chassis.values.card_number import holds_card_number
from chassis.values.money import shown

QUANTITY_MAX: Final = 1_000
"""In a retailer's year of real baskets, every larger quantity was a typing mistake."""
LINES_MAX: Final = 200
"""The largest real basket has 168 lines. Every service handles whole orders, so an order must stay small."""
PRICE_MINOR_MAX: Final = 10_000_000_000
"""The largest order (LINES_MAX × QUANTITY_MAX × this) stays below 2**53, an exact integer in every JSON reader."""
INTEGER_MAX: Final = 2**53 - 1
"""JSON readers round larger integers differently."""
IDEMPOTENCY_KEY_PATTERN: Final = r"^[!-~]+$"
IDEMPOTENCY_KEY_LENGTH_MAX: Final = 128

CONFIG: Final = ConfigDict(extra="forbid")


def _integer(minimum: int, maximum: int) -> dict[str, object]:
    """Return limits for the API's description only. The domain checks them, with error texts of its own."""
    return {"minimum": minimum, "maximum": maximum}


@dataclass(frozen=True, slots=True, kw_only=True)
class CartLine:
    """A product and a quantity; the price comes from the catalogue."""

    __pydantic_config__ = CONFIG

    sku: Sku
    quantity: Annotated[
        int, Field(strict=True, ge=-INTEGER_MAX, le=INTEGER_MAX, json_schema_extra=_integer(1, QUANTITY_MAX))
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentMethod:
    """The gateway's token of a payment method; never a card number."""

    __pydantic_config__ = CONFIG

    token: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9_.:-]+$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipTo:
    """Where the order goes. Personal data: never in logs. What may be missing depends on the country.

    A field that a client leaves out is not part of the fingerprint, so that a new one changes no earlier request.
    """

    __pydantic_config__ = CONFIG

    name: ShortText
    street: ShortText
    street_2: ShortText | None = None
    city: ShortText | None = None
    region: ShortText | None = None
    """A state, a province, a county, an emirate."""
    postal_code: PostalCode | None = None
    country: Country
    phone: Phone | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cart:
    """An order as the customer sends it."""

    __pydantic_config__ = CONFIG

    customer_id: CustomerId
    currency: Currency
    lines: Annotated[tuple[CartLine, ...], Field(max_length=LINES_MAX, json_schema_extra={"minItems": 1})]
    points_to_burn: Annotated[
        int, Field(strict=True, ge=-INTEGER_MAX, le=INTEGER_MAX, json_schema_extra=_integer(0, INTEGER_MAX))
    ] = 0
    payment_method: PaymentMethod
    ship_to: ShipTo


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A product of the catalogue. A product with a price of zero is not for sale."""

    __pydantic_config__ = CONFIG

    sku: Sku
    name: ShortText
    price_minor: Annotated[int, Field(strict=True, ge=0, le=PRICE_MINOR_MAX)]
    currency: Currency


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedLine:
    """A line with the catalogue's price, in minor units of the order's currency."""

    sku: str
    quantity: int
    unit_price_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedCart:
    """A cart that may become an order. The card pays ``payable_minor``; one point pays one minor unit of the rest."""

    cart: Cart
    lines: tuple[PricedLine, ...]
    total_minor: int
    payable_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One reason why a cart cannot be an order; ``path`` leads to the field of the cart."""

    path: tuple[str | int, ...]
    detail: str


class OrderState(enum.StrEnum):
    """The state of an order as its customer sees it."""

    PENDING = "PENDING"
    CONFIRMED = "CONFIRMED"
    CANCELLED_COMPENSATED = "CANCELLED_COMPENSATED"


def message_of(state: OrderState, *, is_cancellation_requested: bool) -> str:
    """Return the message for the customer. It states only what is certain."""
    match state:
        case OrderState.CONFIRMED:
            return "order confirmed"
        case OrderState.CANCELLED_COMPENSATED:
            return "order cancelled, you are not charged for it"
        case OrderState.PENDING if is_cancellation_requested:
            return "order received, cancellation requested"
        case OrderState.PENDING:
            return "order received, confirming"


def price(cart: Cart, products: Mapping[str, Product]) -> PricedCart | tuple[Refusal, ...]:
    """Return the cart with the prices of ``products`` (by sku), or every reason to refuse it."""
    refusals = [*_of_payment(cart), *_of_address(cart.ship_to), *_of_lines(cart, products)]
    if refusals:
        return tuple(refusals)
    lines = tuple(
        PricedLine(sku=line.sku, quantity=line.quantity, unit_price_minor=products[line.sku].price_minor)
        for line in cart.lines
    )
    total_minor = sum(line.quantity * line.unit_price_minor for line in lines)
    if cart.points_to_burn >= total_minor:
        total = shown(total_minor, cart.currency)
        detail = f"{cart.points_to_burn} points for an order of {total}; burn fewer, the card must pay something."
        return (Refusal(path=("points_to_burn",), detail=detail),)
    return PricedCart(cart=cart, lines=lines, total_minor=total_minor, payable_minor=total_minor - cart.points_to_burn)


def _of_payment(cart: Cart) -> Iterator[Refusal]:
    if cart.points_to_burn < 0:
        detail = f"{cart.points_to_burn} points; send zero or more."
        yield Refusal(path=("points_to_burn",), detail=detail)
    if holds_card_number(cart.payment_method.token):
        detail = "This looks like a card number; send the token that the payment gateway gave for it."
        yield Refusal(path=("payment_method", "token"), detail=detail)


def _of_address(ship_to: ShipTo) -> Iterator[Refusal]:
    given = {"city": ship_to.city, "region": ship_to.region, "postal_code": ship_to.postal_code}
    for name in missing_parts(ship_to.country, **given):
        yield Refusal(path=("ship_to", name), detail=f"Missing; an address in {ship_to.country} needs it.")
    for name in ("name", "street", "street_2", "city", "region"):
        if holds_card_number(getattr(ship_to, name) or ""):
            yield Refusal(path=("ship_to", name), detail="This looks like a card number; remove it.")


def _of_lines(cart: Cart, products: Mapping[str, Product]) -> Iterator[Refusal]:
    if not cart.lines:
        yield Refusal(path=("lines",), detail="No lines; an order has at least one.")
    if len(cart.lines) > LINES_MAX:
        detail = f"{len(cart.lines)} lines are more than {LINES_MAX}; from here on send them as another order."
        yield Refusal(path=("lines", LINES_MAX), detail=detail)
        return
    first_of: dict[str, int] = {}
    for number, line in enumerate(cart.lines):
        first = first_of.setdefault(line.sku, number)
        if first != number:
            detail = f"Line {number + 1} repeats sku {line.sku!r} of line {first + 1}; send one line with the sum."
            yield Refusal(path=("lines", number, "sku"), detail=detail)
        yield from _of_line(number, line, cart.currency, products.get(line.sku))


def _of_line(number: int, line: CartLine, currency: str, product: Product | None) -> Iterator[Refusal]:
    named = f"Line {number + 1} (sku {line.sku!r})"
    if line.quantity < 1:
        detail = f"{named}: quantity {line.quantity}; send at least 1."
        yield Refusal(path=("lines", number, "quantity"), detail=detail)
    elif line.quantity > QUANTITY_MAX:
        detail = f"{named}: quantity {line.quantity} is more than {QUANTITY_MAX}; send a smaller one."
        yield Refusal(path=("lines", number, "quantity"), detail=detail)
    if product is None:
        detail = f"{named}: not in the catalogue; remove the line."
        yield Refusal(path=("lines", number, "sku"), detail=detail)
    elif product.price_minor < 1:
        free = shown(product.price_minor, product.currency)
        detail = f"{named}: its price is {free}, so it is not for sale; remove the line."
        yield Refusal(path=("lines", number, "sku"), detail=detail)
    elif product.currency != currency:
        detail = f"{named}: sold in {product.currency}, the order is in {currency}; send one order for each currency."
        yield Refusal(path=("lines", number, "sku"), detail=detail)


def repeated(products: Sequence[Product]) -> tuple[Refusal, ...]:
    """Return a refusal for each product whose sku stands earlier in the same load."""
    seen: set[str] = set()
    refusals: list[Refusal] = []
    for number, product in enumerate(products):
        if product.sku in seen:
            detail = f"Product {number + 1} repeats sku {product.sku!r}; send each sku once."
            refusals.append(Refusal(path=("products", number, "sku"), detail=detail))
        seen.add(product.sku)
    return tuple(refusals)
