"""What every request to Stripe has: the key, the version, and answers that are no answer to the request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from chassis.http.downstream import Response, Unavailable
from payment.gateways.client import Account
from payment.gateways.port import provider_id
from payment.gateways.stripe_bodies import VERSION, Intent, StripeError, error_of, intent_of

BUSY = frozenset({"idempotency_key_in_use", "lock_timeout", "rate_limit"})
"""Codes of requests that were not executed: they are sent again later, under the same key."""
AGAIN: Final = ":2"
"""What a key gets for a second request, where the first one's answer is a stored 500 and the intent's state fences."""


class StripeApi:
    """The API of one account at Stripe. ``api_key`` is read anew for each call."""

    def __init__(self, account: Account, *, api_key: Callable[[], str]) -> None:
        self._account = account
        self._api_key = api_key

    @property
    def name(self) -> str:
        """The name of the account."""
        return self._account.name

    def get(self, path: str) -> Response:
        """Return the answer of a request that changes nothing."""
        return self._account.request("GET", path, headers=self._headers())

    def post(self, path: str, form: list[tuple[str, str]], key: str | None) -> Response:
        """Return the answer of a request under this idempotency key."""
        return self._account.request("POST", path, key=key, form=form, headers=self._headers())

    def intent(self, found: str) -> Intent:
        """Return an intent as it is now, with its charge."""
        path = f"/v1/payment_intents/{found}?expand[]=latest_charge"
        response = self.get(path)
        if (error := self.error(response)) is not None:
            raise response.unforeseen(f"intent {found}: {error.refusal.reason}")
        return intent_of(response)

    def cancelled(self, found: str, key: str | None, *, reason: str) -> Intent:
        """Cancel an intent, and return it as it is then: the answer of a cancel that was refused does not say."""
        path, form = f"/v1/payment_intents/{found}/cancel", [("cancellation_reason", reason)]
        try:
            response = self.post(path, form, key)
        except Unavailable as failure:
            if not is_replayed(failure.headers):
                raise
            response = self.post(path, form, f"{key}{AGAIN}")
        is_present = self.error(response) is None and not is_replayed(response.headers)
        return intent_of(response) if is_present else self.intent(found)

    def error(self, response: Response) -> StripeError | None:
        """Return the error of an answer that says something of the payment; None for a success.

        Raises Unavailable where it was not executed, or the outcome is unknown, and UnforeseenAnswer for our mistake.
        """
        error = error_of(response)
        if error is None:
            return None
        if error.code in BUSY or response.status in (401, 403, 409):
            raise Unavailable(f"{self._account.name} answered {response.status} {error.code}", certain_no_effect=True)
        if error.type not in ("card_error", "invalid_request_error"):
            if error.type == "idempotency_error":
                raise response.unforeseen("the key was used for another request")
            raise Unavailable(f"{self._account.name} answered {response.status} {error.type}")
        return error

    def id_of(self, kind: str, found: str) -> str:
        """Return the id of an object at this account, as our rows have it."""
        return provider_id(self._account.name, kind, found)

    def _headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self._api_key()}", "Stripe-Version": VERSION}


def is_replayed(headers: Mapping[str, str]) -> bool:
    """Return whether an answer is a stored one of an earlier request under the same key."""
    return headers.get("idempotent-replayed", "").lower() == "true"
