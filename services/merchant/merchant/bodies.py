"""What a merchant may send: the shapes of bodies, and the rules that need no table. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field

from chassis.http.fields import TEXT_PATTERN, Currency, Remark, ShortText
from chassis.http.problem import FieldError, pointer
from chassis.values.card_number import text_holds_card_number, token_holds_card_number
from chassis.values.text import identifier
from merchant.domain import AMOUNT_MAX_MINOR

CONFIG: Final = ConfigDict(extra="forbid")
REFERENCE_LENGTH_MAX: Final = 80
METADATA_PAIRS_MAX: Final = 20
METADATA_NAME_LENGTH_MAX: Final = 40
METADATA_TEXT_LENGTH_MAX: Final = 200
CURRENCIES_MAX: Final = 50
FIXED_MAX_MINOR: Final = 10**9
"""A fixed fee is small; a larger one is a typing mistake."""
OVERLAP_MAX_S: Final = 7 * 86_400
"""A replaced key that lives longer than a week is not replaced."""
OVERLAP_S: Final = 86_400
CARD_NUMBER: Final = "This looks like a card number; send the token that the gateway gave for it"
MERCHANT_ID_PATTERN: Final = r"^[a-z0-9][a-z0-9-]{0,39}$"
TEST_SUFFIX: Final = "-test"
"""The ledger's owner of a merchant's accounts in test mode ends like this, so no merchant's id may."""


def _merchant_id(text: str) -> str:
    if text.endswith(TEST_SUFFIX):
        raise ValueError(f"An id may not end in {TEST_SUFFIX}: the accounts of another one's test mode are named so")
    if text_holds_card_number(text):
        raise ValueError(CARD_NUMBER)
    return text


def _without_card_number(text: str) -> str:
    if text_holds_card_number(text):
        raise ValueError("This looks like a card number; remove it")
    return text


def _token(text: str) -> str:
    if token_holds_card_number(text):
        raise ValueError(CARD_NUMBER)
    return text


Amount: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=AMOUNT_MAX_MINOR, description="In minor units.")]
MerchantId: TypeAlias = Annotated[str, Field(pattern=MERCHANT_ID_PATTERN), AfterValidator(_merchant_id)]
Reference: TypeAlias = Annotated[
    str,
    Field(min_length=1, max_length=REFERENCE_LENGTH_MAX, pattern=TEXT_PATTERN),
    AfterValidator(partial(identifier, length_max=REFERENCE_LENGTH_MAX)),
    AfterValidator(_without_card_number),
]
MetadataName: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=METADATA_NAME_LENGTH_MAX, pattern=r"^[A-Za-z0-9_.:-]+$")
]
MetadataText: TypeAlias = Annotated[
    str, Field(max_length=METADATA_TEXT_LENGTH_MAX, pattern=TEXT_PATTERN), AfterValidator(_without_card_number)
]
Metadata: TypeAlias = Annotated[dict[MetadataName, MetadataText], Field(max_length=METADATA_PAIRS_MAX)]
CaptureMode: TypeAlias = Literal["now", "later"]
ByCurrency: TypeAlias = Annotated[dict[Currency, Amount], Field(max_length=CURRENCIES_MAX)]
FixedByCurrency: TypeAlias = Annotated[
    dict[Currency, Annotated[int, Field(strict=True, ge=0, le=FIXED_MAX_MINOR)]], Field(max_length=CURRENCIES_MAX)
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentMethod:
    """What pays, by the gateway's token of it; never a card number."""

    __pydantic_config__ = CONFIG

    type: Literal["card", "mobile_money", "bank"]
    token: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9_.:-]+$"), AfterValidator(_token)]
    holder_name: Annotated[ShortText, AfterValidator(_without_card_number)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentBody:
    """A payment that a merchant requests. A field that may be left out is None then, or has its default."""

    __pydantic_config__ = CONFIG

    amount_minor: Amount
    currency: Currency
    payment_method: PaymentMethod
    capture: CaptureMode = "now"
    reference: Reference
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureBody:
    """What is captured of an authorized payment; without an amount all of it. The rest is released."""

    __pydantic_config__ = CONFIG

    amount_minor: Amount | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelBody:
    """Why a payment is cancelled."""

    __pydantic_config__ = CONFIG

    reason: Remark | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundBody:
    """What is refunded of a captured payment; without an amount all that is left."""

    __pydantic_config__ = CONFIG

    amount_minor: Amount | None = None
    reason: Remark | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBody:
    """What we keep of a payment: basis points, rounded half up, and a fixed part by currency."""

    __pydantic_config__ = CONFIG

    basis_points: Annotated[int, Field(strict=True, ge=0, le=10_000)]
    fixed_minor: FixedByCurrency | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantBody:
    """A merchant to register. ``amount_max_minor`` limits a single payment, by currency."""

    __pydantic_config__ = CONFIG

    merchant_id: MerchantId
    name: ShortText
    currencies: Annotated[tuple[Currency, ...], Field(min_length=1, max_length=CURRENCIES_MAX)]
    price: PriceBody
    amount_max_minor: ByCurrency | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyBody:
    """The mode of a new API key."""

    __pydantic_config__ = CONFIG

    is_live: Annotated[bool, Field(strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationBody:
    """How long the key that is replaced still works."""

    __pydantic_config__ = CONFIG

    overlap_s: Annotated[int, Field(strict=True, ge=0, le=OVERLAP_MAX_S)] = OVERLAP_S


def flaws_of(body: MerchantBody) -> Iterator[FieldError]:
    """Yield what is wrong with a merchant beyond the shape of its fields."""
    known: set[str] = set()
    for index, currency in enumerate(body.currencies):
        if currency in known:
            yield FieldError(pointer=pointer(["currencies", index]), detail=f"{currency} is here twice; send it once.")
        known.add(currency)
    named = {"price": body.price.fixed_minor or {}, "amount_max_minor": body.amount_max_minor or {}}
    for field, amounts in named.items():
        for currency in amounts:
            if currency not in known:
                path = [field, "fixed_minor", currency] if field == "price" else [field, currency]
                yield FieldError(pointer=pointer(path), detail=f"{currency} is none of the merchant's currencies.")
