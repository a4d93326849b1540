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


def for_services(home: Home, urls: Mapping[str, str], side: str = "") -> Path:
    """Write the accounts as our services read them, and return the file. ``urls`` are those of the gateways.

    Behind toxiproxy each side has addresses of its own, and hence a file of its own.
    """
    file = home.path / f"gateway-accounts{side and f'-{side}'}.json"
    _write(file, {"accounts": [_of_service(home, each, urls) for each in ACCOUNTS], "routes": routes()})
    return file


def for_simulator(home: Home, gateway: str, called: str | None) -> Path:
    """Write a gateway's own list of its accounts, and return the file. ``called`` takes its webhooks."""
    file = home.folder("simulators") / f"{gateway}-accounts.json"
    file.parent.mkdir(mode=0o700, exist_ok=True)
    _write(file, {"accounts": [_of_gateway(home, each, called) for each in ACCOUNTS if each.gateway == gateway]})
    return file


def routes() -> list[dict[str, object]]:
    """Return which account takes the payments of a currency; the first that fits counts."""
    return [
        {"currency": currency, "is_live": is_live, "account": f"{gateway}-{'live' if is_live else 'test'}"}
        for is_live in (True, False)
        for currency, gateway in (*((currency, ADYEN) for currency in CURRENCIES_OF_ADYEN), ("*", STRIPE))
    ]


def _of_service(home: Home, account: Account, urls: Mapping[str, str]) -> dict[str, object]:
    return {
        **_shared(home, account),
        "gateway": account.gateway,
        "url": urls[account.gateway],
        "requests_per_s": account.requests_per_s,
        "feed": f"{urls[account.gateway]}/feeds",
    }


def _of_gateway(home: Home, account: Account, called: str | None) -> dict[str, object]:
    url = None if called is None else f"{called}{CALLBACK_PATH}/{account.name}"
    return {**_shared(home, account), "webhook_url": url}


def _shared(home: Home, account: Account) -> dict[str, object]:
    shared: dict[str, object] = {
        "name": account.name,
        "is_live": account.is_live,
        "api_key_file": str(home.password_file(account.key)),
        "webhook_secret_file": str(home.password_file(account.webhook_secrets)),
        "settlement_currency": account.settlement_currency,
    }
    return shared if account.merchant_account is None else {**shared, "merchant_account": account.merchant_account}


def _write(file: Path, content: Mapping[str, object]) -> None:
    text = json.dumps(content, indent=2) + "\n"
    if not file.exists() or file.read_text() != text:
        replace(file, text)


assert {account.gateway for account in ACCOUNTS} == set(ACCOUNT_HOLDERS)
