"""Fields that several APIs share, each with one rule."""

from __future__ import annotations

import re
from datetime import date
from functools import partial
from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field

from chassis.values.address import is_country
from chassis.values.ids import canonical
from chassis.values.money import is_currency
from chassis.values.remark import remark
from chassis.values.text import human_text, identifier
from chassis.values.times import EXPECTED, EXPECTED_DAY, full_date, rfc3339

TEXT_PATTERN: Final = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""No control characters: PostgreSQL cannot store a NUL, and a log line must stay one line."""
SKU_LENGTH_MAX: Final = 64
CUSTOMER_ID_LENGTH_MAX: Final = 128
SHORT_TEXT_LENGTH_MAX: Final = 200
POSTAL_CODE_LENGTH_MAX: Final = 20
PHONE_LENGTH_MAX: Final = 64


def currency(code: str) -> str:
    """Return the code of a currency that amounts can be in. Raises ValueError with what is wrong."""
    if not is_currency(code):
        raise ValueError("Not a currency of ISO 4217 with minor units; send a code such as USD")
    return code


def country(code: str) -> str:
    """Return the code of a country. Raises ValueError with what is wrong."""
    if not is_country(code):
        raise ValueError("Not a country of ISO 3166-1; send a code of two capital letters such as US")
    return code


def _time(value: object) -> object:
    """Return a text as a time. Anything else is not one: pydantic would take numbers for seconds since 1970."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(EXPECTED)
    if re.search(r"[0-9] [0-9]{2}:?[0-9]{2}$", value) and "T" in value.upper():
        raise ValueError("A + in a URL is a blank; write the zone as %2B02:00, or the time with Z")
    return rfc3339(value)


DAY_MIN, DAY_MAX = date(2000, 1, 1), date(2199, 12, 31)


def _day(value: object) -> date:
    """Return a text as a day. Pydantic would take numbers for seconds since 1970, and times at midnight for days."""
    if not isinstance(value, str):
        raise ValueError(EXPECTED_DAY)
    found = full_date(value)
    if not DAY_MIN <= found <= DAY_MAX:
        raise ValueError(f"{EXPECTED_DAY}, from {DAY_MIN} to {DAY_MAX}")
    return found


def _canonical(value: object) -> object:
    return canonical(value) if isinstance(value, str) else value


SkuText: TypeAlias = Annotated[str, Field(min_length=1, max_length=SKU_LENGTH_MAX, pattern=TEXT_PATTERN)]
CustomerIdText: TypeAlias = Annotated[str, Field(min_length=1, max_length=CUSTOMER_ID_LENGTH_MAX, pattern=TEXT_PATTERN)]
ShortTextShape: TypeAlias = Annotated[str, Field(min_length=1, max_length=SHORT_TEXT_LENGTH_MAX, pattern=TEXT_PATTERN)]
CurrencyCode: TypeAlias = Annotated[str, Field(pattern=r"^[A-Z]{3}$", description="ISO 4217.")]
CountryCode: TypeAlias = Annotated[str, Field(pattern=r"^[A-Z]{2}$", description="ISO 3166-1 alpha-2.")]
"""The shapes: what a client may send. Where its meaning must be known as it was sent, the rule is applied later."""

Sku: TypeAlias = Annotated[SkuText, AfterValidator(partial(identifier, length_max=SKU_LENGTH_MAX))]
CustomerId: TypeAlias = Annotated[
    CustomerIdText, AfterValidator(partial(identifier, length_max=CUSTOMER_ID_LENGTH_MAX))
]
ShortText: TypeAlias = Annotated[ShortTextShape, AfterValidator(partial(human_text, length_max=SHORT_TEXT_LENGTH_MAX))]
Remark: TypeAlias = Annotated[ShortTextShape, AfterValidator(remark)]
"""Why staff do something. It is kept for good, so no card number may stand in it."""
Currency: TypeAlias = Annotated[CurrencyCode, AfterValidator(currency)]
Country: TypeAlias = Annotated[CountryCode, AfterValidator(country)]
CANONICAL: Final = BeforeValidator(_canonical)
"""For ids, of which a ULID may have small letters."""
SagaId: TypeAlias = Annotated[str, CANONICAL, Field(pattern=r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
"""A ULID; its letters may be small."""
Time: TypeAlias = Annotated[AwareDatetime, BeforeValidator(_time)]
"""A time with its zone, as RFC 3339 writes it."""
Day: TypeAlias = Annotated[date, BeforeValidator(_day)]
"""A day, as RFC 3339 writes it."""
