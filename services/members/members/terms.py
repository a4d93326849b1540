"""Dated terms: tariffs with fees, limits and taxes, and allocation policies. They are data, never code. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

PPM: Final = 1_000_000
LOAN: Final = "LOAN"


class NoTerms(LookupError):
    """No terms are valid at a time; the text names them. Enter some whose first day is earlier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """What an amount costs up to ``up_to_minor``."""

    up_to_minor: int
    fee_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """Fees, limits and taxes from ``valid_from`` on.

    ``withdrawal_bands`` are our own fees, ``payout_bands`` the provider's charges as they are expected. Excise duty is
    on our fee alone. ``repeat_within_s``: an open request of the same member and amount that young refuses another.
    """

    valid_from: datetime
    withdrawal_bands: tuple[Band, ...]
    payout_bands: tuple[Band, ...]
    excise_ppm: int
    payout_min_minor: int
    payout_max_minor: int
    phone_day_max_minor: int
    prompt_min_minor: int
    prompt_max_minor: int
    repeat_within_s: int
    dividend_tax_ppm: int
    rebate_tax_ppm: int

    def fee_minor(self, amount_minor: int) -> int:
        """Return our fee of a withdrawal."""
        return _band(self.withdrawal_bands, amount_minor)

    def excise_minor(self, fee_minor: int) -> int:
        """Return the excise duty on a fee, rounded half up."""
        return rounded(fee_minor * self.excise_ppm, PPM)

    def charge_minor(self, amount_minor: int) -> int:
        """Return what the provider is expected to charge for a payout."""
        return _band(self.payout_bands, amount_minor)

    @classmethod
    def of(cls, valid_from: datetime, document: Mapping[str, Any]) -> Tariff:
        """Return a tariff as it is stored."""
        bands = {name: tuple(Band(**band) for band in document[name]) for name in ("withdrawal_bands", "payout_bands")}
        return cls(valid_from=valid_from, **{**document, **bands})


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTarget:
    """One place in the order of a policy: a kind, and the most of one receipt that goes there."""

    kind: str
    limit_minor: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a receipt is allocated, by name and version. The last target has no limit."""

    name: str
    version: int
    valid_from: datetime
    loan_order: tuple[str, ...]
    targets: tuple[PolicyTarget, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One place to which a receipt goes: of LOAN the owner is the loan, else the member."""

    kind: str
    owner: str
    limit_minor: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """Every version of every policy."""

    versions: tuple[Policy, ...]

    def valid(self, name: str, at: datetime) -> Policy:
        """Return the version of a policy that was valid at a time. Raises NoTerms."""
        found = [each for each in self.versions if each.name == name and each.valid_from <= at]
        if not found:
            raise NoTerms(f"No version of the policy {name!r} is valid at {at:%Y-%m-%d}.")
        return max(found, key=lambda each: (each.valid_from, each.version))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariffs:
    """Every tariff."""

    versions: tuple[Tariff, ...]

    def valid(self, at: datetime) -> Tariff:
        """Return the tariff that is valid at a time. Raises NoTerms."""
        found = [each for each in self.versions if each.valid_from <= at]
        if not found:
            raise NoTerms(f"No tariff is valid at {at:%Y-%m-%d}.")
        return max(found, key=lambda each: each.valid_from)


def targets_of(policy: Policy, member_id: str, loans: Sequence[str]) -> tuple[Target, ...]:
    """Return where a member's payment goes by a policy: each of the member's open loans in the place of LOAN."""
    found: list[Target] = []
    for each in policy.targets:
        if each.kind == LOAN:
            found += [Target(kind=LOAN, owner=loan, limit_minor=each.limit_minor) for loan in loans]
        else:
            found.append(Target(kind=each.kind, owner=member_id, limit_minor=each.limit_minor))
    return tuple(found)


def rounded(numerator: int, denominator: int) -> int:
    """Return a quotient of natural numbers, rounded half up."""
    return (2 * numerator + denominator) // (2 * denominator)


def _band(bands: Sequence[Band], amount_minor: int) -> int:
    """Return the fee of the first band that reaches the amount; that of the last one for a larger amount."""
    fee_minor = 0
    for band in sorted(bands, key=lambda each: each.up_to_minor):
        fee_minor = band.fee_minor
        if amount_minor <= band.up_to_minor:
            break
    return fee_minor
