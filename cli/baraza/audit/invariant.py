"""What an invariant consists of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """One rule. The query ``checked`` counts the rows that it applies to, ``offenders`` finds those that break it.

    ``settled`` finds what staff have put right by hand, and how; it breaks the rule no more.
    """

    name: str
    rule: str
    checked: str
    offenders: str
    settled: str | None = None
