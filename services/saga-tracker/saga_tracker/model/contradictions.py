"""Contradictions: evidence against an outcome that a service had published, and who settled it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

Act: TypeAlias = tuple[datetime, str, str]
"""When and by whom something was done, and the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradicted:
    """Later evidence about an attempt contradicts the outcome that its service had published.

    ``is_mark``: it came after the saga's last event was published, which nothing takes back. It is kept for people, and
    no decision reads it. ``unsettled_since`` is when it was published, where its service undoes nothing and a person
    has to settle it.
    """

    step: str
    attempt: int
    reason: str
    is_mark: bool = False
    unsettled_since: datetime | None = None

    @property
    def key(self) -> str:
        """The identity of the contradiction among those of a saga: a service publishes one for each attempt."""
        return f"{self.step} {self.attempt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """An operator settled these contradictions, by key, outside of the saga; its state stays as it is."""

    contradictions: frozenset[str]
    at: datetime
    by: str
    reason: str


def merge_open(to_settle: Mapping[str, datetime], fact: Contradicted) -> Mapping[str, datetime]:
    """Return since when each contradiction has to be settled, with one more of them that may have to be."""
    if (since := fact.unsettled_since) is None:
        return to_settle
    return {**to_settle, fact.key: min(since, to_settle.get(fact.key, since))}


def merge_acts(settled: Mapping[str, Act], fact: Settled) -> Mapping[str, Act]:
    """Return the act that settled each contradiction, with one more act; the first counts."""
    act = (fact.at, fact.by, fact.reason)
    return {**settled, **{key: min(act, settled.get(key, act)) for key in fact.contradictions}}
