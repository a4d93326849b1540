"""MTN MoMo over HTTP: its paths, bodies and statuses. Nothing else knows them, besides what its callbacks say.

It has what Daraja lacks: a key of ours that a repeat carries, a status by it, and a "not found" that is proof. Its
callback comes once and is never repeated, so the status is what settles. Its queries are answered at
once; the answer is kept and decided about as a callback is.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from chassis.http.downstream import Downstream, Response, Unavailable
from chassis.saga.answers import Accepted, Proven, QueryAnswer, SendAnswer
from chassis.saga.attempts import Outcome
from chassis.values.json_text import compact
from mobile_money import readings
from mobile_money.codes import Meaning
from mobile_money.limiter import Limiter
from mobile_money.momo_bodies import BALANCE_KIND, KIND, STATUS_KIND, end_of
from mobile_money.port import Capabilities, Page, Payout, Prompt, Refused, Requested, Reversal
from mobile_money.short_codes import ShortCode
from mobile_money.tokens import Tokens

PROVIDER: Final = "momo"
COLLECTION, DISBURSEMENT = "/collection", "/disbursement"
PATHS: Final = {
    Prompt: f"{COLLECTION}/v1_0/requesttopay",
    Payout: f"{DISBURSEMENT}/v1_0/transfer",
    Reversal: f"{DISBURSEMENT}/v1_0/refund",
}
BALANCE: Final = f"{DISBURSEMENT}/v1_0/account/balance"
"""Of the account that payouts and refunds are taken from."""
TOKEN: Final = "/token/"
KEY: Final = "X-Reference-Id"
CAPABILITIES: Final = Capabilities(
    has_key=True,
    repeat_is_safe=True,
    repeat_proves_arrival=True,
    ask_by_own_key=True,
    answer_is_final=False,
    callback_is_authentic=False,
    callback_repeats=False,
    not_found_is_proof=True,
    reversible=True,
)


class Momo:
    """A :class:`~mobile_money.port.Provider`: one short code at MoMo, for callers in many threads."""

    def __init__(
        self,
        short_code: ShortCode,
        downstream: Downstream,
        *,
        tokens: Callable[[str, Callable[[], tuple[str, float]]], Tokens],
        limiter: Limiter,
        keep: Callable[[str, str, bytes], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._code = short_code
        self._downstream = downstream
        self._tokens = {each: tokens(each, partial(self._fetch_token, each)) for each in (COLLECTION, DISBURSEMENT)}
        self._limiter = limiter
        self._keep = keep
        self._clock = clock

    def capabilities(self, _request: Requested) -> Capabilities:
        return CAPABILITIES

    def own_id(self, key: str) -> str:
        return readings.reference_of(key)

    def send(self, request: Requested, key: str) -> SendAnswer:
        own_id, amount = self.own_id(key), str(readings.whole(request.amount_minor))
        body: dict[str, object] = {"amount": amount, "currency": request.currency, "externalId": own_id}
        party = {"partyIdType": "MSISDN", "partyId": "" if isinstance(request, Reversal) else request.phone}
        match request:
            case Prompt():
                body |= {"payer": party, "payerMessage": request.reference, "payeeNote": request.reference}
            case Payout():
                body |= {"payee": party, "payerMessage": "payout", "payeeNote": "payout"}
            case Reversal():
                if request.collected_as is None:
                    refused = Refused(reason="no_collection", text="MoMo returns only what we have collected")
                    return Proven(outcome=Outcome.FAILED, detail=refused.detail)
                body |= {"referenceIdToRefund": request.collected_as, "payerMessage": "return", "payeeNote": "return"}
        headers = {KEY: own_id, "X-Callback-Url": self._callback_url()}
        is_bulk = isinstance(request, Payout) and request.lane == "BULK"
        response = self._request("POST", PATHS[type(request)], body=body, headers=headers, is_bulk=is_bulk)
        if response.status in (HTTPStatus.ACCEPTED, HTTPStatus.CONFLICT):
            return Accepted(reference=own_id)
        if response.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            reason = "credentials" if response.status != HTTPStatus.BAD_REQUEST else "invalid_request"
            return Proven(outcome=Outcome.FAILED, detail=Refused(reason=reason, code=str(response.status)).detail)
        raise response.unforeseen("neither taken nor refused")

    def query(self, request: Requested, key: str, provider_id: str | None) -> QueryAnswer:
        response = self._request("GET", f"{PATHS[type(request)]}/{self.own_id(key)}", is_bulk=True)
        if response.status == HTTPStatus.NOT_FOUND:
            return Proven(outcome=Outcome.ABSENT)  # it was never taken: here that is proof
        if response.status != HTTPStatus.OK:
            raise response.unforeseen("no status")
        body = {"externalId": self.own_id(key), **response.body}
        if end_of(body).code.meaning is Meaning.UNCERTAIN:
            return Accepted()
        self._keep(self._code.name, STATUS_KIND, compact(body).encode())
        raise Unavailable("queried; its answer is decided about as a callback is")

    def query_receipt(self, receipt: str) -> None:
        raise Unavailable("MoMo has no query by receipt; the request's own status is queried")

    def query_balance(self) -> None:
        queried_at = self._clock()
        response = self._request("GET", BALANCE, is_bulk=True)
        if response.status != HTTPStatus.OK or response.body.get("currency") != self._code.currency:
            raise response.unforeseen("no balance in our currency")
        # With its time an equal balance later is another answer, and no repetition of this one.
        body = {**response.body, "queriedAt": queried_at.isoformat()}
        self._keep(self._code.name, BALANCE_KIND, compact(body).encode())

    def register(self) -> None:
        """Do nothing: each request names where its callback goes."""

    def pull(self, begins_at: datetime, ends_at: datetime, offset: int) -> Page:
        return Page(payments=(), next_offset=None)

    def _request(
        self,
        method: Any,
        path: str,
        *,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        is_bulk: bool,
    ) -> Response:
        """Call once within the limit; after a token's error once more, with a new token: nothing was begun."""
        self._limiter.wait(is_bulk=is_bulk)
        tokens = self._tokens[COLLECTION if path.startswith(COLLECTION) else DISBURSEMENT]
        token = tokens.current()
        for _ in range(2):
            sent = {"Authorization": f"Bearer {token}", **(headers or {})}
            response = self._downstream.request(method, path, body=body, headers=sent)
            if response.status != HTTPStatus.UNAUTHORIZED:
                break
            token = tokens.current(but=token)
        return response

    def _fetch_token(self, product: str) -> tuple[str, float]:
        key, secret = self._code.key_file.read_text().strip(), self._code.secret_file.read_text().strip()
        basic = base64.b64encode(f"{key}:{secret}".encode()).decode()
        response = self._downstream.request(
            "POST", f"{product}{TOKEN}", body={}, headers={"Authorization": f"Basic {basic}"}
        )
        token = response.body.get("access_token")
        if response.status >= 400 or not isinstance(token, str):
            raise Unavailable(f"{self._code.name} gives no token", certain_no_effect=True)
        return token, float(str(response.body.get("expires_in", 3_600)))

    def _callback_url(self) -> str:
        return f"{str(self._code.callback_url).rstrip('/')}/{self._code.callback_secrets[0]}/{KIND}"
