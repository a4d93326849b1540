"""The accounts at gateways, from one file: which adapter, address, mode and keys each has, and who pays through it.

The file is JSON. It holds no secret, only the names of files with secrets. Intake chooses an account by it, payment
calls it, and reconciliation reads its feed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, ValidationError, model_validator

ANY = "*"
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Gateway = Literal["stripe", "adyen"]


class InvalidGatewayAccounts(ValueError):
    """The gateway accounts' file cannot be used; the text names the file, the field, and what is wrong with it."""


class GatewayAccount(BaseModel):
    """One account at a gateway. ``merchant_account`` is Adyen's own name of it; Stripe has none.

    ``requests_per_s`` is what one process of payment may send the account; calls beyond it wait. With several
    processes it is the gateway's limit divided by their greatest number. ``settlement_currency`` is that of its
    payouts. ``feed`` is the folder or the address of its reports; without it nothing is reconciled.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    gateway: Gateway
    is_live: bool
    url: HttpUrl
    api_key_file: Path
    webhook_secret_file: Path
    merchant_account: str | None = None
    settlement_currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    requests_per_s: Annotated[float, Field(gt=0)] = 100.0
    feed: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.gateway == "adyen") != (self.merchant_account is not None):
            raise ValueError(f"account {self.name} is at {self.gateway}; only one at adyen has a merchant_account")
        return self

    @property
    def api_key(self) -> str:
        """The key of its API, read anew each time. Raises OSError where the file cannot be read."""
        return self.api_key_file.read_text().strip()

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """The secrets that sign its webhooks, one a line: the newest, and the one before while it is replaced."""
        return tuple(self.webhook_secret_file.read_text().split())


class Route(BaseModel):
    """Which account takes the payments of a merchant in a currency. ``*`` is any; the first route that fits counts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    merchant: str = ANY
    currency: Annotated[str, Field(pattern=r"^([A-Z]{3}|\*)$")] = ANY
    is_live: bool
    account: Name

    def fits(self, merchant_id: str, currency: str, *, is_live: bool) -> bool:
        """Return whether it is about a payment of this merchant."""
        return self.is_live == is_live and self.merchant in (ANY, merchant_id) and self.currency in (ANY, currency)


class GatewayAccounts(BaseModel):
    """All accounts, and the routes to them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    accounts: tuple[GatewayAccount, ...] = ()
    routes: tuple[Route, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [account.name for account in self.accounts]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"accounts {', '.join(sorted(repeated))} are listed twice; names are unique")
        for route in self.routes:
            found = next((account for account in self.accounts if account.name == route.account), None)
            if found is None:
                raise ValueError(f"a route leads to account {route.account!r}; known: {', '.join(sorted(names))}")
            if found.is_live != route.is_live:
                raise ValueError(f"a route of {_mode(route.is_live)} leads to {found.name} of {_mode(found.is_live)}")
        return self

    def account(self, name: str) -> GatewayAccount:
        """Return an account. Raises LookupError, with the known names."""
        for account in self.accounts:
            if account.name == name:
                return account
        known = ", ".join(sorted(account.name for account in self.accounts))
        raise LookupError(f"There is no gateway account {name!r}; known: {known}. Check the gateway accounts' file.")

    def account_for(self, merchant_id: str, currency: str, *, is_live: bool) -> GatewayAccount | None:
        """Return the account that takes a payment; None where no route fits."""
        fitting = (route for route in self.routes if route.fits(merchant_id, currency, is_live=is_live))
        route = next(fitting, None)
        return None if route is None else self.account(route.account)


def read(file: Path | None) -> GatewayAccounts:
    """Return the accounts of a file; none without a file. Raises InvalidGatewayAccounts."""
    if file is None:
        return GatewayAccounts()
    try:
        return GatewayAccounts.model_validate_json(file.read_bytes())
    except OSError as error:
        raise InvalidGatewayAccounts(f"The gateway accounts' file {file} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        raise InvalidGatewayAccounts(f"The gateway accounts' file {file}: {_problems(error)}") from error


def _problems(error: ValidationError) -> str:
    found: Sequence[str] = [
        f"{'.'.join(map(str, each['loc'])) or 'the file'}: {each['msg']}" for each in error.errors(include_url=False)
    ]
    return "; ".join(found)


def _mode(is_live: bool) -> str:
    return "live mode" if is_live else "test mode"
