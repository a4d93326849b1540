"""Addresses and lines as the courier takes them. Of an address it keeps a digest, never the parts."""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from simulators.problems import Text

LINES_MAX = 10_000
"""More lines than checkout accepts in any cart."""

Part = Annotated[Text | None, Field(exclude_if=lambda part: part is None)]
"""A part that an address may lack: then it is no part of a request's fingerprint either."""


class Address(BaseModel):
    """Where a parcel goes to, or is collected."""

    model_config = ConfigDict(extra="forbid")

    name: Text
    street: Text
    street_2: Part = None
    city: Part = None
    region: Part = None
    postal_code: Part = None
    phone: Part = None
    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]


class Line(BaseModel):
    """One line of the parcel's content."""

    model_config = ConfigDict(extra="ignore")

    sku: Text
    quantity: Annotated[int, Field(strict=True, ge=1)]


Lines = Annotated[list[Line], Field(min_length=1, max_length=LINES_MAX)]


class Nothing(BaseModel):
    """The empty body of an operation whose path contains everything."""

    model_config = ConfigDict(extra="forbid")


def destination(reference: str, to: Address) -> str:
    """Return the SHA-256 of the reference and the address, a line each, in hexadecimal digits."""
    parts = (to.name, to.street, to.street_2, to.city, to.region, to.postal_code, to.country, to.phone)
    return hashlib.sha256("\n".join([reference, *(part or "" for part in parts)]).encode()).hexdigest()
