"""The accounts that callers have at a simulated gateway, from a JSON file: keys, webhooks, currency of payouts."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from simulators.server import SimulatorSettings


class AccountSettings(SimulatorSettings):
    """The settings of a gateway with accounts. Environment: BARAZA_SIMULATOR_ACCOUNTS (a file)."""

    simulator_accounts: Path


class Account(BaseModel):
    """One account. Without a ``webhook_url`` no webhook is sent; the first secret signs, the second is the one before.

    ``merchant_account`` is the name that callers give in requests, at gateways that have such names. Without
    ``requests_per_s`` no call is one too many. ``time_zone`` is that of reports which are not in UTC.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    is_live: bool
    api_key_file: Path
    webhook_secret_file: Path
    webhook_url: str | None = None
    settlement_currency: str
    merchant_account: str | None = None
    requests_per_s: float | None = None
    time_zone: str = "UTC"

    @property
    def api_key(self) -> str:
        """The key of its API, read anew each time."""
        return self.api_key_file.read_text().strip()

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """The secrets that sign, read anew each time."""
        return tuple(self.webhook_secret_file.read_text().split())


class Accounts(BaseModel):
    """All accounts at one gateway."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    accounts: tuple[Account, ...]

    def of_key(self, key: str) -> Account | None:
        """Return the account of an API key."""
        return next((each for each in self.accounts if each.api_key == key), None)

    def named(self, name: str) -> Account | None:
        """Return an account by its name."""
        return next((each for each in self.accounts if each.name == name), None)


def read(file: Path) -> Accounts:
    """Return the accounts in a file."""
    return Accounts.model_validate_json(file.read_bytes())
