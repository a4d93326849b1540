"""Fields that several APIs share, each with one rule."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any, Final, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field

from chassis.values.address import is_country
from chassis.values.ids import canonical
from chassis.values.money import is_currency
from chassis.values.text import human_text, identifier

TEXT_PATTERN: Final = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""For an API's description only: no control characters. The rule itself has more to say, and says it in words."""
SKU_LENGTH_MAX: Final = 64
CUSTOMER_ID_LENGTH_MAX: Final = 128
SHORT_TEXT_LENGTH_MAX: Final = 200
POSTAL_CODE_LENGTH_MAX: Final = 20
PHONE_LENGTH_MAX: Final = 32
PHONE: Final = re.compile(r"\+?(?:[ ().-]*[0-9]){5,15}(?: ?(?:x|ext\.?) ?[0-9]{1,6})?")
"""E.164 has at most 15 digits; people write them in groups, and an extension after them."""


def _described(length_max: int) -> Any:
    return Field(min_length=1, max_length=length_max, json_schema_extra={"pattern": TEXT_PATTERN})


def _phone(text: str) -> str:
    found = human_text(text, length_max=PHONE_LENGTH_MAX)
    if not PHONE.fullmatch(found):
        raise ValueError("Not a phone number; send digits, with + before the country's code, such as +1 503 555 0100")
    return found


def _currency(code: str) -> str:
    if not is_currency(code):
        raise ValueError("Not a currency of ISO 4217 with minor units; send a code such as USD")
    return code


def _country(code: str) -> str:
    if not is_country(code):
        raise ValueError("Not a country of ISO 3166-1; send a code of two capital letters such as US")
    return code


def _canonical(value: object) -> object:
    return canonical(value) if isinstance(value, str) else value


Sku: TypeAlias = Annotated[
    str, _described(SKU_LENGTH_MAX), AfterValidator(partial(identifier, length_max=SKU_LENGTH_MAX))
]
CustomerId: TypeAlias = Annotated[
    str, _described(CUSTOMER_ID_LENGTH_MAX), AfterValidator(partial(identifier, length_max=CUSTOMER_ID_LENGTH_MAX))
]
ShortText: TypeAlias = Annotated[
    str, _described(SHORT_TEXT_LENGTH_MAX), AfterValidator(partial(human_text, length_max=SHORT_TEXT_LENGTH_MAX))
]
PostalCode: TypeAlias = Annotated[
    str, _described(POSTAL_CODE_LENGTH_MAX), AfterValidator(partial(human_text, length_max=POSTAL_CODE_LENGTH_MAX))
]
Phone: TypeAlias = Annotated[str, _described(PHONE_LENGTH_MAX), AfterValidator(_phone)]
Currency: TypeAlias = Annotated[
    str, Field(description="ISO 4217.", json_schema_extra={"pattern": "^[A-Z]{3}$"}), AfterValidator(_currency)
]
Country: TypeAlias = Annotated[
    str,
    Field(description="ISO 3166-1 alpha-2.", json_schema_extra={"pattern": "^[A-Z]{2}$"}),
    AfterValidator(_country),
]
CANONICAL: Final = BeforeValidator(_canonical)
"""For ids, of which a ULID may have small letters."""
SagaId: TypeAlias = Annotated[str, CANONICAL, Field(pattern=r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
"""A ULID; its letters may be small."""
