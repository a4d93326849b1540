"""Phones of customers: what each answers to a prompt, and whether it can be paid."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from simulators.mobile.faults import DELAY_S_MAX
from simulators.mobile.records import MobileRecords

MSISDN = re.compile(r"254[17]\d{8}")
"""Twelve digits, without a plus."""
ANSWER_S = 0.2
"""How long a person at a phone takes, unless a test wants otherwise."""
ANSWERS = {"pay": "0", "wrong_pin": "2001", "cancel": "1032", "no_answer": "1037", "expire": "1019", "locked": "8006"}
"""The result code of each answer. The money of a payer decides besides."""
FIRST = ("Amina", "Brian", "Chebet", "Daudi", "Esther", "Faraji", "Grace", "Hassan")
LAST = ("Achieng", "Barasa", "Cherono", "Kamau", "Mwangi", "Njeri", "Otieno", "Wafula")


class Phone(BaseModel):
    """One phone, as ``POST /phones/{msisdn}`` sets it.

    ``after_s`` is how long it takes to answer. With ``paid_after_s`` the payer pays that much later, whatever the
    answer was: after a cancellation, or when the prompt has expired. ``wallet_minor`` is what a new wallet has.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    answer: Annotated[str, Field(pattern=f"^({'|'.join(ANSWERS)})$")] = "pay"
    after_s: Annotated[float, Field(ge=0, le=DELAY_S_MAX)] = ANSWER_S
    paid_after_s: Annotated[float, Field(ge=0, le=DELAY_S_MAX)] | None = None
    is_registered: bool = True
    name: str | None = None
    wallet_minor: Annotated[int, Field(ge=0)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """The three names that a customer is registered by; each may be empty."""

    first: str
    middle: str
    last: str

    @property
    def whole(self) -> str:
        """The names in one text."""
        return " ".join(part for part in (self.first, self.middle, self.last) if part)


def find(records: MobileRecords, msisdn: str) -> Phone:
    """Return a phone; one that is not known pays and can be paid."""
    kept = records.kept_under(_key(msisdn))
    return Phone() if kept is None else Phone.model_validate(kept)


def put(records: MobileRecords, msisdn: str, phone: Phone) -> None:
    """Store a phone. It runs inside a transaction."""
    records.keep_under(_key(msisdn), phone.model_dump())


def name_of(records: MobileRecords, msisdn: str) -> Name:
    """Return the names of a phone's owner; of one without a name they follow from the number."""
    given = find(records, msisdn).name
    if given is not None:
        first, _, rest = given.partition(" ")
        middle, _, last = rest.rpartition(" ")
        return Name(first=first, middle=middle, last=last)
    drawn = sha256(msisdn.encode()).digest()
    return Name(first=FIRST[drawn[0] % len(FIRST)], middle="", last=LAST[drawn[1] % len(LAST)])


def shown(records: MobileRecords, msisdn: str) -> dict[str, object]:
    """Return a phone as a test sees it."""
    name = name_of(records, msisdn)
    return {"msisdn": msisdn, **find(records, msisdn).model_dump(exclude={"name"}), "name": asdict(name)}


def hashed(msisdn: str) -> str:
    """Return the SHA-256 of a number, as registrations of the first version receive it."""
    return sha256(msisdn.encode()).hexdigest()


def masked(msisdn: str) -> str:
    """Return a number with its middle hidden."""
    return f"{msisdn[:4]}*****{msisdn[-3:]}"


def _key(msisdn: str) -> str:
    return f"phone {msisdn}"
