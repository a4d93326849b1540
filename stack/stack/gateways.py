"""The stack's accounts at the simulated gateways: the file that our services read, the one of each gateway, the keys.

Each gateway has one account for live and one for test mode. A key and the secrets of its webhooks are files in the
home, which both sides read.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stack.home import Home, replace
from stack.providers import ACCOUNT_HOLDERS, ADYEN, STRIPE

CURRENCIES_OF_ADYEN = ("EUR", "GBP", "KES", "BHD", "CLP")
"""Every merchant's payments in these go to Adyen, all others to Stripe."""
KEY_BYTES, HMAC_KEY_BYTES = 24, 32
CALLBACK_PATH = "/v1/callbacks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One account of the stack at a gateway."""

    gateway: str
    is_live: bool
    settlement_currency: str
    requests_per_s: float
    merchant_account: str | None = None
    time_zone: str = "UTC"

    @property
    def name(self) -> str:
        """Its name here; in paths, rows and files."""
        return f"{self.gateway}-{'live' if self.is_live else 'test'}"

    @property
    def key(self) -> str:
        """The name of its API key's file in the home."""
        return f"{self.name}-key"

    @property
    def webhook_secrets(self) -> str:
        """The name of the file with the secrets that sign its webhooks, the newest first."""
        return f"{self.name}-webhook"

    def new_key(self) -> str:
        """Return a new API key, of the gateway's own form."""
        text = secrets.token_hex(KEY_BYTES)
        mode = "live" if self.is_live else "test"
        return f"sk_{mode}_{text}" if self.gateway == STRIPE else f"AQE-{mode}-{text}"

    def new_webhook_secret(self) -> str:
        """Return a new secret for webhooks, of the gateway's own form: Adyen's are hexadecimal digits."""
        return f"whsec_{secrets.token_hex(KEY_BYTES)}" if self.gateway == STRIPE else secrets.token_hex(HMAC_KEY_BYTES)


ACCOUNTS = tuple(
    Account(
        gateway=gateway,
        is_live=is_live,
        settlement_currency=currency,
        requests_per_s=100 if is_live else 25,
        merchant_account=None if gateway == STRIPE else f"Baraza{'Live' if is_live else 'Test'}",
        time_zone="UTC" if gateway == STRIPE else "Europe/Amsterdam",
    )
    for gateway, currency in ((STRIPE, "USD"), (ADYEN, "EUR"))
    for is_live in (True, False)
)
"""The requests a second are those that Stripe allows by default, in live and in test mode."""


def ensure_keys(home: Home) -> None:
    """Create the keys and secrets that are missing."""
    for account in ACCOUNTS:
        home.password(account.key, account.new_key)
        home.password(account.webhook_secrets, account.new_webhook_secret)


def for_services(home: Home, urls: Mapping[str, str], *, side: str = "", requests_per_s: float | None = None) -> Path:
    """Write the accounts as our services read them, and return the file. ``urls`` are those of the gateways.

    Behind toxiproxy each side has addresses of its own, and hence a file of its own.
    """
    file = home.path / f"gateway-accounts{side and f'-{side}'}.json"
    accounts = [
        {
            **_shared(home, each, requests_per_s),
            "gateway": each.gateway,
            "url": urls[each.gateway],
            "feed": urls[each.gateway],
        }
        for each in ACCOUNTS
    ]
    _write(file, {"accounts": accounts, "routes": routes()})
    return file


def for_simulator(home: Home, gateway: str, called: str | None, *, requests_per_s: float | None = None) -> Path:
    """Write a gateway's own list of its accounts, and return the file. ``called`` takes its webhooks."""
    file = home.folder("simulators") / f"{gateway}-accounts.json"
    file.parent.mkdir(mode=0o700, exist_ok=True)
    accounts = [
        {
            **_shared(home, each, requests_per_s),
            "time_zone": each.time_zone,
            "webhook_url": None if called is None else f"{called}{CALLBACK_PATH}/{each.name}",
        }
        for each in ACCOUNTS
        if each.gateway == gateway
    ]
    _write(file, {"accounts": accounts})
    return file


def routes() -> list[dict[str, object]]:
    """Return which account takes the payments of a currency; the first that fits counts."""
    return [
        {"currency": currency, "is_live": is_live, "account": f"{gateway}-{'live' if is_live else 'test'}"}
        for is_live in (True, False)
        for currency, gateway in (*((currency, ADYEN) for currency in CURRENCIES_OF_ADYEN), ("*", STRIPE))
    ]


def _shared(home: Home, account: Account, requests_per_s: float | None) -> dict[str, object]:
    shared: dict[str, object] = {
        "name": account.name,
        "is_live": account.is_live,
        "api_key_file": str(home.password_file(account.key)),
        "webhook_secret_file": str(home.password_file(account.webhook_secrets)),
        "settlement_currency": account.settlement_currency,
        "requests_per_s": requests_per_s or account.requests_per_s,
    }
    return shared if account.merchant_account is None else {**shared, "merchant_account": account.merchant_account}


def _write(file: Path, content: Mapping[str, object]) -> None:
    text = json.dumps(content, indent=2) + "\n"
    if not file.exists() or file.read_text() != text:
        replace(file, text)


assert {account.gateway for account in ACCOUNTS} == set(ACCOUNT_HOLDERS)
