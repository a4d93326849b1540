"""Fields that several APIs share, each with one rule."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from pydantic import Field

TEXT_PATTERN: Final = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""No control characters: PostgreSQL cannot store a NUL, and a log line must stay one line."""

Sku: TypeAlias = Annotated[str, Field(min_length=1, max_length=64, pattern=TEXT_PATTERN)]
CustomerId: TypeAlias = Annotated[str, Field(min_length=1, max_length=128, pattern=TEXT_PATTERN)]

SagaId: TypeAlias = Annotated[str, Field(pattern=r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
"""A ULID in its canonical form."""
