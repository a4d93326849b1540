"""The rules for a cart: its shape, its price, and every reason to refuse it as an order. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Final

from pydantic import Field

from chassis.http.fields import (
    CUSTOMER_ID_LENGTH_MAX,
    SKU_LENGTH_MAX,
    Currency,
    CurrencyCode,
    CustomerIdText,
    ShortText,
    Sku,
    SkuText,
    country,
    currency,
)
from chassis.values.address import is_country
from chassis.values.card_number import (
    LENGTH_MIN,
    has_enough_digits,
    text_holds_card_number,
    token_holds_card_number,
)
from chassis.values.money import is_currency, shown
from chassis.values.text import are_plain, identifier
from checkout.fields import (
    CONFIG,
    INTEGER_MAX,
    Refusal,
    ShipTo,
    TextRules,
    integer_limits,
    missing_in,
    normal_address,
    refusals_of_missing,
)
from checkout.points import ONE_CENT, PointsRate, flaw_of

QUANTITY_MAX: Final = 1_000
"""In a retailer's year of real baskets, every larger quantity was a typing mistake."""
LINES_MAX: Final = 200
"""The largest real basket has 168 lines. Every service handles whole orders, so an order must stay small."""
PRICE_MINOR_MAX: Final = 10_000_000_000
"""The largest order (LINES_MAX × QUANTITY_MAX × this) stays below 2**53, an exact integer in every JSON reader."""
IDEMPOTENCY_KEY_PATTERN: Final = r"^[!-~]+$"
IDEMPOTENCY_KEY_LENGTH_MAX: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class CartLine:
    """A product and a quantity; the price comes from the catalogue."""

    __pydantic_config__ = CONFIG

    sku: SkuText
    quantity: Annotated[
        int, Field(strict=True, ge=-INTEGER_MAX, le=INTEGER_MAX, json_schema_extra=integer_limits(1, QUANTITY_MAX))
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentMethod:
    """The gateway's token of a payment method; never a card number."""

    __pydantic_config__ = CONFIG

    token: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9_.:-]+$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cart:
    """An order as the customer sends it. Only its shape is checked: :func:`check` applies the rules for its texts."""

    __pydantic_config__ = CONFIG

    customer_id: CustomerIdText
    currency: CurrencyCode
    lines: Annotated[tuple[CartLine, ...], Field(max_length=LINES_MAX, json_schema_extra={"minItems": 1})]
    points_to_burn: Annotated[
        int, Field(strict=True, ge=-INTEGER_MAX, le=INTEGER_MAX, json_schema_extra=integer_limits(0, INTEGER_MAX))
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
    """A cart that may become an order. The card pays ``payable_minor``, the points pay the rest at this rate.

    ``rate`` is None where no points are burned.
    """

    cart: Cart
    lines: tuple[PricedLine, ...]
    total_minor: int
    payable_minor: int
    rate: PointsRate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A cart as it was sent and in its normal form, and what its texts are refused for. Needs no catalogue.

    An order keeps the ``cart``, except for a sku that the catalogue has as it was ``sent``.
    """

    sent: Cart
    cart: Cart
    refusals: tuple[Refusal, ...]

    @property
    def skus(self) -> list[str]:
        """The skus of the lines, in both forms."""
        skus = [line.sku for line in self.cart.lines]
        return skus if self.sent is self.cart else skus + [line.sku for line in self.sent.lines]


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


def price(
    cart: Cart, products: Mapping[str, Product], rates: Mapping[str, PointsRate] = ONE_CENT
) -> PricedCart | tuple[Refusal, ...]:
    """Return the cart with the prices of ``products`` (by sku), or every reason to refuse it."""
    return price_checked(check(cart), products, rates)


def price_checked(
    checked: Checked, products: Mapping[str, Product], rates: Mapping[str, PointsRate] = ONE_CENT
) -> PricedCart | tuple[Refusal, ...]:
    """Return a checked cart with the prices of ``products`` (by sku), or every reason to refuse it.

    ``rates`` are those of the loyalty programme, by currency.
    """
    cart = checked.cart
    found = [products.get(line.sku) for line in cart.lines]
    if checked.sent is not cart:
        found = [product or products.get(sent.sku) for product, sent in zip(found, checked.sent.lines, strict=True)]
    lines = _sold(cart, found)
    rate = rates.get(cart.currency) if cart.points_to_burn else None
    flaw = flaw_of(cart.points_to_burn, cart.currency, rate)
    if checked.refusals or flaw or lines is None:
        of_points = (Refusal(path=("points_to_burn",), detail=flaw),) if flaw else ()
        return (*checked.refusals, *of_points, *_of_lines(cart, found))
    total_minor = sum([line.quantity * line.unit_price_minor for line in lines])
    paid_minor = 0 if rate is None else rate.paid_minor(cart.points_to_burn)
    if paid_minor >= total_minor:
        total = shown(total_minor, cart.currency)
        detail = f"{cart.points_to_burn} points for an order of {total}; burn fewer, the card must pay something."
        return (Refusal(path=("points_to_burn",), detail=detail),)
    return PricedCart(
        cart=cart, lines=lines, total_minor=total_minor, payable_minor=total_minor - paid_minor, rate=rate
    )


def _sold(cart: Cart, found: Sequence[Product | None]) -> tuple[PricedLine, ...] | None:
    """Return the lines with their prices, or None where :func:`_of_lines` has something to refuse."""
    lines: list[PricedLine] = []
    for line, product in zip(cart.lines, found, strict=True):
        if (
            product is None
            or not 1 <= line.quantity <= QUANTITY_MAX
            or product.price_minor < 1
            or product.currency != cart.currency
        ):
            return None
        lines.append(PricedLine(sku=product.sku, quantity=line.quantity, unit_price_minor=product.price_minor))
    is_whole = 1 <= len(lines) <= LINES_MAX and len({line.sku for line in lines}) == len(lines)
    return tuple(lines) if is_whole else None


def check(cart: Cart) -> Checked:
    """Apply the rules that need no catalogue. Call it before the transaction, in which others would wait for it."""
    if _is_plain(cart):
        return Checked(sent=cart, cart=cart, refusals=())
    refusals = [*_of_codes(cart), *_of_payment(cart)]
    rules = TextRules(refusals)
    customer_id = rules.applied(cart.customer_id, identifier, CUSTOMER_ID_LENGTH_MAX, ("customer_id",))
    rules.refuse_card_number(customer_id, LENGTH_MIN, ("customer_id",))
    ship_to = normal_address(cart.ship_to, rules, "ship_to")
    refusals += refusals_of_missing(ship_to, "ship_to")
    lines = cart.lines if are_plain([line.sku for line in cart.lines]) else tuple(map(_normal_line, cart.lines))
    if customer_id is cart.customer_id and ship_to is cart.ship_to and lines is cart.lines:
        return Checked(sent=cart, cart=cart, refusals=tuple(refusals))
    normal = replace(cart, customer_id=customer_id, lines=lines, ship_to=ship_to)
    return Checked(sent=cart, cart=normal, refusals=tuple(refusals))


def _is_plain(cart: Cart) -> bool:
    """Return whether the rules leave the cart as it is and refuse nothing, which nearly every one shows at once."""
    ship_to = cart.ship_to
    texts = [ship_to.name, ship_to.street]
    texts += [text for text in (ship_to.street_2, ship_to.city, ship_to.region, ship_to.postal_code) if text]
    return (
        ship_to.phone is None
        and are_plain([cart.customer_id, *texts, *[line.sku for line in cart.lines]])
        and not (has_enough_digits("".join(texts)) and any(map(has_enough_digits, texts)))
        and not text_holds_card_number(cart.customer_id)
        and not token_holds_card_number(cart.payment_method.token)
        and cart.points_to_burn >= 0
        and is_currency(cart.currency)
        and is_country(ship_to.country)
        and not missing_in(ship_to)
        and "" not in (ship_to.street_2, ship_to.city, ship_to.region, ship_to.postal_code)
    )


def _of_codes(cart: Cart) -> Iterator[Refusal]:
    codes = ((("currency",), currency, cart.currency), (("ship_to", "country"), country, cart.ship_to.country))
    for path, rule, code in codes:
        try:
            rule(code)
        except ValueError as error:
            yield Refusal(path=path, detail=f"{error}.")


def _normal_line(line: CartLine) -> CartLine:
    """Return the line with its sku in the normal form, or as it is: an earlier release may have stored it like that."""
    try:
        return replace(line, sku=identifier(line.sku, length_max=SKU_LENGTH_MAX))
    except ValueError:
        return line


def _of_payment(cart: Cart) -> Iterator[Refusal]:
    if cart.points_to_burn < 0:
        yield Refusal(path=("points_to_burn",), detail=f"{cart.points_to_burn} points; send zero or more.")
    if token_holds_card_number(cart.payment_method.token):
        detail = "This looks like a card number; send the token that the payment gateway gave for it."
        yield Refusal(path=("payment_method", "token"), detail=detail)


def _of_lines(cart: Cart, found: Sequence[Product | None]) -> Iterator[Refusal]:
    if not cart.lines:
        yield Refusal(path=("lines",), detail="No lines; an order has at least one.")
    if len(cart.lines) > LINES_MAX:
        detail = f"{len(cart.lines)} lines are more than {LINES_MAX}; from here on send them as another order."
        yield Refusal(path=("lines", LINES_MAX), detail=detail)
        return
    first_of: dict[str, int] = {}
    for number, (line, product) in enumerate(zip(cart.lines, found, strict=True)):
        first = first_of.setdefault(line.sku if product is None else product.sku, number)
        if first != number:
            detail = f"Line {number + 1} repeats sku {line.sku!r} of line {first + 1}; send one line with the sum."
            yield Refusal(path=("lines", number, "sku"), detail=detail)
        yield from _of_line(number, line, cart.currency, product)


def _of_line(number: int, line: CartLine, currency: str, product: Product | None) -> Iterator[Refusal]:
    named = f"Line {number + 1} (sku {line.sku!r})"
    if line.quantity < 1:
        detail = f"{named}: quantity {line.quantity}; send at least 1."
        yield Refusal(path=("lines", number, "quantity"), detail=detail)
    elif line.quantity > QUANTITY_MAX:
        detail = f"{named}: quantity {line.quantity} is more than {QUANTITY_MAX}; send a smaller one."
        yield Refusal(path=("lines", number, "quantity"), detail=detail)
    if product is None:
        yield Refusal(path=("lines", number, "sku"), detail=f"{named}: {_not_sold(line.sku)}")
    elif product.price_minor < 1:
        free = shown(product.price_minor, product.currency)
        detail = f"{named}: its price is {free}, so it is not for sale; remove the line."
        yield Refusal(path=("lines", number, "sku"), detail=detail)
    elif product.currency != currency:
        detail = f"{named}: sold in {product.currency}, the order is in {currency}; send one order for each currency."
        yield Refusal(path=("lines", number, "sku"), detail=detail)


def _not_sold(sku: str) -> str:
    try:
        identifier(sku, length_max=SKU_LENGTH_MAX)
    except ValueError as error:
        return f"{error}."
    return "not in the catalogue; remove the line."
