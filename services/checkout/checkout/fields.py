"""What the bodies of several requests share: the shape and the rules of an address, and the form of a refusal. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Final, Protocol

from pydantic import ConfigDict, Field

from chassis.http.fields import (
    PHONE_LENGTH_MAX,
    POSTAL_CODE_LENGTH_MAX,
    SHORT_TEXT_LENGTH_MAX,
    TEXT_PATTERN,
    CountryCode,
    ShortTextShape,
    country,
)
from chassis.values.address import missing_parts
from chassis.values.card_number import LENGTH_MIN, PRINTED_LENGTH_MIN, text_holds_card_number
from chassis.values.phone import phone
from chassis.values.text import human_text

CONFIG: Final = ConfigDict(extra="forbid")
INTEGER_MAX: Final = 2**53 - 1
"""JSON readers round larger integers differently."""


class Rule(Protocol):
    """A rule for a text: it returns the text's form, or raises ValueError with what is wrong."""

    def __call__(self, text: str, /, *, length_max: int) -> str: ...


ADDRESS_RULES: Final[Mapping[str, tuple[Rule, int]]] = {
    "name": (human_text, SHORT_TEXT_LENGTH_MAX),
    "street": (human_text, SHORT_TEXT_LENGTH_MAX),
    "street_2": (human_text, SHORT_TEXT_LENGTH_MAX),
    "city": (human_text, SHORT_TEXT_LENGTH_MAX),
    "region": (human_text, SHORT_TEXT_LENGTH_MAX),
    "postal_code": (human_text, POSTAL_CODE_LENGTH_MAX),
    "phone": (phone, PHONE_LENGTH_MAX),
}
"""The rule for each text of an address, and its longest form."""
REQUIRED_PARTS: Final = frozenset({"name", "street"})
"""What every address has, whatever its country."""


def integer_limits(minimum: int, maximum: int) -> dict[str, object]:
    """Return limits for the API's description only. The domain checks them, with error texts of its own."""
    return {"minimum": minimum, "maximum": maximum}


def _optional(length_max: int) -> object:
    return Field(max_length=length_max, pattern=TEXT_PATTERN)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipTo:
    """Where a parcel goes or is collected. Personal data: never in logs. What may be missing depends on the country.

    A field that a client may leave out is None then, which is no part of the fingerprint: a new one changes none.
    """

    __pydantic_config__ = CONFIG

    name: ShortTextShape
    street: ShortTextShape
    street_2: Annotated[str, _optional(SHORT_TEXT_LENGTH_MAX)] | None = None
    city: Annotated[str, _optional(SHORT_TEXT_LENGTH_MAX)] | None = None
    region: Annotated[str, _optional(SHORT_TEXT_LENGTH_MAX)] | None = None
    """A state, a province, a county, an emirate."""
    postal_code: Annotated[str, _optional(POSTAL_CODE_LENGTH_MAX)] | None = None
    country: CountryCode
    phone: Annotated[str, _optional(PHONE_LENGTH_MAX)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One reason why a body is refused; ``path`` leads to the field of the body."""

    path: tuple[str | int, ...]
    detail: str


class TextRules:
    """Applies rules for texts, and collects what is refused."""

    def __init__(self, refusals: list[Refusal]) -> None:
        self._refusals = refusals

    def applied(self, text: str, rule: Rule, length_max: int, path: tuple[str, ...]) -> str:
        """Return the text in the rule's form, or as it is where it is refused."""
        try:
            return rule(text, length_max=length_max)
        except ValueError as error:
            self._refusals.append(Refusal(path=path, detail=f"{error}."))
            return text

    def refuse_card_number(self, text: str, length_min: int, path: tuple[str, ...]) -> None:
        """Refuse a text in which a card number stands."""
        if text_holds_card_number(text, length_min=length_min):
            self._refusals.append(Refusal(path=path, detail="This looks like a card number; remove it."))


def check_address(address: ShipTo, field: str) -> tuple[ShipTo, tuple[Refusal, ...]]:
    """Return the address in its normal form, and what it is refused for. ``field`` is its name in the body."""
    refusals: list[Refusal] = []
    try:
        country(address.country)
    except ValueError as error:
        refusals.append(Refusal(path=(field, "country"), detail=f"{error}."))
    found = normal_address(address, TextRules(refusals), field)
    return found, (*refusals, *refusals_of_missing(found, field))


def normal_address(address: ShipTo, rules: TextRules, field: str) -> ShipTo:
    """Return the address with its texts in their normal form; it is the same object where they are."""
    changed: dict[str, str | None] = {}
    for name, (rule, length_max) in ADDRESS_RULES.items():
        text: str | None = getattr(address, name)
        if text is None:
            continue
        if name not in REQUIRED_PARTS and not text.strip():  # as forms send what was not filled in
            changed[name] = None
            continue
        found = rules.applied(text, rule, length_max, (field, name))
        rules.refuse_card_number(found, PRINTED_LENGTH_MIN if name == "phone" else LENGTH_MIN, (field, name))
        if found is not text:
            changed[name] = found
    return replace(address, **changed) if changed else address  # type: ignore[arg-type]


def refusals_of_missing(address: ShipTo, field: str) -> Iterator[Refusal]:
    """Yield a refusal for each part that the address lacks."""
    for name in missing_in(address):
        yield Refusal(path=(field, name), detail=f"Missing; an address in {address.country} needs it.")


def missing_in(address: ShipTo) -> tuple[str, ...]:
    """Return the parts that an address in its country needs and that this one lacks."""
    return missing_parts(address.country, bool(address.city), bool(address.region), bool(address.postal_code))
