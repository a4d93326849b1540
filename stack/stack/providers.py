"""The simulated providers: which services call each, and whom each calls back."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from stack import contract

GATEWAY, COURIER, STRIPE, ADYEN, DARAJA, MOMO, ISSUER = SIMULATORS = (
    "gateway", "courier", "stripe", "adyen", "daraja", "momo", "issuer",
)  # fmt: skip
PROVIDERS = (GATEWAY, COURIER, STRIPE, ADYEN, DARAJA, MOMO)
"""The simulators that only some services call. Everything needs the other one: the issuer's keys."""
ACCOUNT_HOLDERS = (STRIPE, ADYEN)
"""The gateways of merchants' payments, where we have accounts, each with its keys."""
MOBILE_MONEY = (DARAJA, MOMO)
"""The providers of mobile money, where we have short codes, each with its keys."""


def callers(provider: str) -> tuple[str, ...]:
    """Return the services that call a provider: of a gateway with accounts those, else those with an adapter for it."""
    if provider in ACCOUNT_HOLDERS:
        return contract.account_callers()
    return tuple(service for service in contract.services() if _has_adapter(service, provider))


def called_back_by(provider: str) -> tuple[str, ...]:
    """Return the services to which a provider sends its webhooks: of its callers those whose outcomes come later."""
    return tuple(service for service in callers(provider) if service in contract.called_back())


def payers() -> tuple[str, ...]:
    """Return the services that prompt and pay phones: those with an adapter for a provider of mobile money."""
    return tuple(dict.fromkeys(service for provider in MOBILE_MONEY for service in callers(provider)))


def _has_adapter(service: str, provider: str) -> bool:
    specification = importlib.util.find_spec(contract.package_of(service))
    if specification is None or specification.origin is None:
        return False
    return Path(specification.origin).with_name(f"http_{provider}.py").exists()
