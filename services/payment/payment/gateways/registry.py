"""The gateways by account: each request goes to the account that it names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from chassis.http.downstream import Downstream, Unavailable
from chassis.http.gateway_accounts import GatewayAccount
from chassis.saga.answers import Accepted, Proven, QueryAnswer, SendAnswer
from payment.gateways.adyen import VERSION_PATH, AdyenGateway
from payment.gateways.client import Account
from payment.gateways.limiter import Limiter
from payment.gateways.port import CaptureLater, Gateway, Requested, Taken, provider_id, succeeded
from payment.gateways.stripe import StripeGateway
from payment.lease import CallLease

TIMEOUT_S: Final = 4.0
"""A call that takes longer counts as unanswered. A card's issuer takes a second or two; the lease lasts 5 s."""


@dataclass(frozen=True, slots=True)
class Gateways:
    """The gateways of merchants' payments, by the name of the account."""

    by_account: dict[str, Gateway]

    def send(self, request: Requested | CaptureLater, key: str) -> SendAnswer:
        """Send an attempt. A capture that is left for later is proven at once, without a call."""
        if isinstance(request, CaptureLater):
            return _left(request)
        return self._of(request).send(request, key)

    def query(self, request: Requested | CaptureLater, key: str, provider_id: str | None) -> QueryAnswer:
        """Return what became of an attempt."""
        if isinstance(request, CaptureLater):
            return _left(request)
        return self._of(request).query(request, key, provider_id)

    def cancel(self, request: Requested, key: str, provider_id: str | None) -> Accepted | Proven:
        """Cancel an authorization."""
        return self._of(request).cancel(request, key, provider_id)

    def _of(self, request: Requested) -> Gateway:
        gateway = self.by_account.get(request.account)
        if gateway is None:
            known = ", ".join(sorted(self.by_account)) or "none"
            raise Unavailable(
                "its gateway account is not configured",
                certain_no_effect=True,
                detail=f"{request.account!r} is none of {known}; check the gateway accounts' file",
            )
        return gateway


def gateways_of(accounts: Iterable[GatewayAccount], lease: CallLease, *, concurrency_max: int) -> Gateways:
    """Return the gateways of these accounts. Nothing connects, and no key is read, before the first call."""
    return Gateways({each.name: _gateway(each, lease, concurrency_max) for each in accounts})


def _gateway(account: GatewayAccount, lease: CallLease, concurrency_max: int) -> Gateway:
    downstream = Downstream(account.name, str(account.url), timeout_s=TIMEOUT_S, concurrency_max=concurrency_max)
    called = Account(downstream, limiter=Limiter(account.name, account.requests_per_s), lease=lease)
    api_key = partial(_api_key, account)
    if account.gateway == "stripe":
        return StripeGateway(called, api_key=api_key)
    path = VERSION_PATH if (account.url.path or "/") == "/" else ""
    return AdyenGateway(called, merchant_account=account.merchant_account or "", api_key=api_key, path=path)


def _api_key(account: GatewayAccount) -> str:
    try:
        return account.api_key
    except OSError as error:
        reason = f"the key of {account.name} cannot be read"
        raise Unavailable(reason, certain_no_effect=True, detail=str(error)) from error


def _left(request: CaptureLater) -> Proven:
    taken = Taken(
        gateway=request.gateway,
        gateway_payment_id=request.gateway_payment_id,
        amount_minor=0,
        currency=request.currency,
    )
    known = provider_id("later", "capture", request.gateway_payment_id)
    return succeeded(taken, provider_id=known, reference=request.gateway_payment_id)
