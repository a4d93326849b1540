"""Daraja over HTTP: its paths, bodies and errors. Nothing else knows them, besides what its callbacks say.

An answer proves that a request was taken, or that it was not begun. Whatever else comes is no proof of anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from chassis.http.downstream import Downstream, NotTried, Response, Unavailable
from chassis.saga.answers import Accepted, NotFound, Proven, QueryAnswer, SendAnswer
from chassis.saga.attempts import Outcome
from mobile_money import codes, daraja_bodies, readings
from mobile_money.codes import Meaning
from mobile_money.daraja_bodies import prompt_id
from mobile_money.daraja_login import Initiator, fetch_token
from mobile_money.limiter import Limiter
from mobile_money.port import Capabilities, Listed, Page, Payout, Prompt, Refused, Requested, Reversal
from mobile_money.questions import Question, QuestionKind, Questions
from mobile_money.short_codes import ShortCode
from mobile_money.tokens import Tokens

PROVIDER: Final = "daraja"
PUSH, PUSH_QUERY = "/mpesa/stkpush/v1/processrequest", "/mpesa/stkpushquery/v1/query"
B2C, STATUS, BALANCE = (
    "/mpesa/b2c/v3/paymentrequest",
    "/mpesa/transactionstatus/v1/query",
    "/mpesa/accountbalance/v1/query",
)
REVERSAL, PULL, PULL_REGISTER = (
    "/mpesa/reversal/v1/request",
    "/pulltransactions/v1/query",
    "/pulltransactions/v1/register",
)
REGISTER: Final = "/mpesa/c2b/v1/registerurl"
"""Its confirmations have the payer's phone as a hash; those of version 2 have a mask, which leads to no member."""
REGISTERED_BEFORE: Final = "500.003.1001"
NOMINATED: Final = "254700000000"
SHORT_CODE_TYPE, RECEIVER_TYPE = "4", "11"
QUERIED_AFTER: Final = timedelta(seconds=150)
"""A phone's dialogue lives for one to three minutes."""
PULL_FOUND, PULL_NONE = "1000", "1001"
PAGE_ROWS_MAX: Final = 1_000
QUOTA_WAIT_S: Final = 60.0

PROMPTS: Final = Capabilities(
    has_key=False,
    repeat_is_safe=False,
    repeat_proves_arrival=False,
    ask_by_own_key=False,
    answer_is_final=False,
    callback_is_authentic=False,
    callback_repeats=False,
    not_found_is_proof=False,
    reversible=True,
    lookback_s=48 * 3_600,
)
PAYOUTS: Final = Capabilities(
    has_key=True,
    repeat_is_safe=True,
    repeat_proves_arrival=True,
    ask_by_own_key=True,
    answer_is_final=False,
    callback_is_authentic=False,
    callback_repeats=False,
    not_found_is_proof=False,
    reversible=False,
)
REVERSALS: Final = Capabilities(
    has_key=False,
    repeat_is_safe=True,
    repeat_proves_arrival=True,
    ask_by_own_key=False,
    answer_is_final=False,
    callback_is_authentic=False,
    callback_repeats=False,
    not_found_is_proof=False,
    reversible=False,
)


def reads_error(content: bytes) -> bool:
    """Return whether a body of HTTP 500 is Daraja's own answer: a JSON object with its ``errorCode``."""
    try:
        body = json.loads(content)
    except ValueError:
        return False
    return isinstance(body, dict) and isinstance(body.get("errorCode"), str) and bool(body["errorCode"])


class Daraja:
    """A :class:`~mobile_money.port.Provider`: one short code at Daraja, for callers in many threads."""

    def __init__(
        self,
        short_code: ShortCode,
        downstream: Downstream,
        *,
        tokens: Callable[[Callable[[], tuple[str, float]]], Tokens],
        limiter: Limiter,
        questions: Questions,
        clock: Callable[[], datetime],
    ) -> None:
        self._code = short_code
        self._downstream = downstream
        self._tokens = tokens(partial(fetch_token, short_code, downstream))
        self._limiter = limiter
        self._questions = questions
        self._clock = clock
        self._login = Initiator(short_code, clock)

    def capabilities(self, request: Requested) -> Capabilities:
        match request:
            case Prompt():
                return PROMPTS
            case Payout():
                return PAYOUTS
            case Reversal():
                return REVERSALS

    def own_id(self, key: str) -> str:
        return readings.originator_of(key)

    def send(self, request: Requested, key: str) -> SendAnswer:
        match request:
            case Prompt():
                return self._push(request)
            case Payout():
                return self._pay(request, key)
            case Reversal():
                return self._reverse(request)

    def query(self, request: Requested, key: str, provider_id: str | None) -> QueryAnswer:
        if isinstance(request, Prompt):
            return self._query_push(request, provider_id)
        if (answer := self._questions.answer(key)) is not None:
            return answer
        conversation = None if provider_id is None else provider_id.partition(":")[2]
        if isinstance(request, Reversal) and conversation is None:
            return NotFound()  # its answer was lost; sent again it is carried out once, and says so
        by: dict[str, object] = {"OriginalConversationID": self.own_id(key)}
        if isinstance(request, Reversal):
            by = {"OriginalConversationID": conversation}
        self._ask_status(by, Question(kind=QuestionKind.ATTEMPT, key=key))
        raise Unavailable("queried; the answer comes by callback")

    def query_receipt(self, receipt: str) -> None:
        self._ask_status({"TransactionID": receipt}, Question(kind=QuestionKind.RECEIPT, receipt=receipt))

    def query_balance(self) -> None:
        body = {
            **self._login.named(),
            "CommandID": "AccountBalance",
            "PartyA": self._code.short_code,
            "IdentifierType": SHORT_CODE_TYPE,
            "Remarks": "balance",
            **self._called_back("balance"),
        }
        answer = self._accepted(self._post(BALANCE, body, is_bulk=True))
        self._questions.keep(self._code.short_code, str(answer["ConversationID"]), Question(kind=QuestionKind.BALANCE))

    def pull(self, begins_at: datetime, ends_at: datetime, offset: int) -> Page:
        form = "%Y-%m-%d %H:%M:%S"
        body = {
            "ShortCode": self._code.short_code,
            "StartDate": begins_at.astimezone(readings.NAIROBI).strftime(form),
            "EndDate": ends_at.astimezone(readings.NAIROBI).strftime(form),
            "OffSetValue": str(offset),
        }
        response = self._post(PULL, body, is_bulk=True)
        found = str(response.body.get("ResponseCode", ""))
        if found == PULL_NONE:
            return Page(payments=(), next_offset=None)
        if response.status >= 400 or found != PULL_FOUND:
            raise response.unforeseen("no list of payments")
        payments: tuple[Listed, ...] = daraja_bodies.listed(response.body)
        return Page(payments=payments, next_offset=offset + len(payments) if payments else None)

    def register(self) -> None:
        urls = {
            "ShortCode": self._code.short_code,
            "ResponseType": "Completed",
            "ConfirmationURL": self._callback_url(daraja_bodies.CONFIRMATION),
            "ValidationURL": self._callback_url(daraja_bodies.VALIDATION),
        }
        response = self._post(REGISTER, urls, is_bulk=True)
        known = readings.code_of(response.body.get("errorCode"))
        if response.status >= HTTPStatus.BAD_REQUEST and known != REGISTERED_BEFORE:
            raise response.unforeseen(f"the addresses of confirmations were not registered: {known}")
        pulled = {
            "ShortCode": self._code.short_code,
            "RequestType": "Pull",
            "NominatedNumber": NOMINATED,
            "CallBackURL": self._callback_url(daraja_bodies.CONFIRMATION),
        }
        response = self._post(PULL_REGISTER, pulled, is_bulk=True)
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise response.unforeseen("lists of payments were not registered")

    def _push(self, request: Prompt) -> SendAnswer:
        at = self._clock()
        body = {
            **self._login.signed(at),
            "TransactionType": "CustomerPayBillOnline",
            "Amount": readings.whole(request.amount_minor),
            "PartyA": int(request.phone),
            "PartyB": int(self._code.short_code),
            "PhoneNumber": int(request.phone),
            "CallBackURL": self._callback_url("stk"),
            "AccountReference": request.reference,
            "TransactionDesc": "Baraza",
        }
        response = self._post(PUSH, body, is_bulk=False)
        if (refused := self._refused(response, is_prompt=True)) is not None:
            return refused
        checkout = str(self._accepted(response)["CheckoutRequestID"])
        return Accepted(provider_id=prompt_id(checkout), reference=checkout)

    def _query_push(self, request: Prompt, provider_id: str | None) -> QueryAnswer:
        if provider_id is None:
            raise Unavailable("its id is not known: the answer to the push was lost, and it has no key of ours")
        at = self._clock()
        body = {**self._login.signed(at), "CheckoutRequestID": provider_id.partition(":")[2]}
        response = self._post(PUSH_QUERY, body, is_bulk=True)
        if response.body.get("errorCode"):
            raise Unavailable(f"the prompt's end is not known: {response.body['errorCode']}")
        is_over = request.requested_at is None or at - request.requested_at >= QUERIED_AFTER
        value = readings.code_of(response.body.get("ResultCode"))
        code = codes.of_prompt(value, is_asked=is_over)
        if code.meaning is Meaning.REFUSED:
            text = str(response.body.get("ResultDesc", ""))
            return Proven(outcome=Outcome.REFUSED, detail=Refused(reason=code.reason, code=value, text=text).detail)
        return Accepted()  # also where it is paid: the answer has neither a receipt nor an amount

    def _pay(self, request: Payout, key: str) -> SendAnswer:
        body = {
            "OriginatorConversationID": self.own_id(key),
            "InitiatorName": self._code.initiator,
            "SecurityCredential": self._login.credential(),
            "CommandID": "BusinessPayment",
            "Amount": readings.whole(request.amount_minor),
            "PartyA": int(self._code.short_code),
            "PartyB": int(request.phone),
            "Remarks": "payout",
            "QueueTimeOutURL": self._callback_url("b2c-timeout"),
            "ResultURL": self._callback_url("b2c"),
            "Occassion": self.own_id(key),
        }
        response = self._post(B2C, body, is_bulk=request.lane == "BULK")
        return self._taken(response)

    def _reverse(self, request: Reversal) -> SendAnswer:
        body = {
            **self._login.named(),
            "CommandID": "TransactionReversal",
            "TransactionID": request.receipt,
            "Amount": readings.whole(request.amount_minor),
            "ReceiverParty": self._code.short_code,
            "RecieverIdentifierType": RECEIVER_TYPE,
            "Remarks": "return",
            "Occasion": request.receipt,
            **self._called_back("reversal"),
        }
        return self._taken(self._post(REVERSAL, body, is_bulk=False))

    def _taken(self, response: Response) -> SendAnswer:
        if (refused := self._refused(response, is_prompt=False)) is not None:
            return refused
        conversation = str(self._accepted(response)["ConversationID"])
        return Accepted(provider_id=f"{PROVIDER}:{conversation}", reference=conversation)

    def _ask_status(self, by: Mapping[str, object], question: Question) -> None:
        body = {
            **self._login.named(),
            "CommandID": "TransactionStatusQuery",
            **by,
            "PartyA": self._code.short_code,
            "IdentifierType": SHORT_CODE_TYPE,
            "Remarks": "status",
            "Occasion": "status",
            **self._called_back("status"),
        }
        answer = self._accepted(self._post(STATUS, body, is_bulk=True))
        self._questions.keep(self._code.short_code, str(answer["ConversationID"]), question)

    def _refused(self, response: Response, *, is_prompt: bool) -> SendAnswer | None:
        """Return what an error proves; None without one. Raises Unavailable where it proves nothing."""
        value = readings.code_of(response.body.get("errorCode"))
        if not value and response.status < 400:
            return None
        text = str(response.body.get("errorMessage", ""))
        if value == codes.QUOTA:
            raise NotTried(f"the quota of {self._code.name} is used up", retry_after_s=QUOTA_WAIT_S)
        code = codes.of_error(value, text)
        if code.meaning is Meaning.DUPLICATE and not is_prompt:
            return Accepted()
        if (outcome := code.meaning.outcome) is not None:
            return Proven(outcome=outcome, detail=Refused(reason=code.reason, code=value, text=text).detail)
        raise Unavailable(f"{self._code.name} answered {value or response.status}", detail=text)

    def _accepted(self, response: Response) -> Mapping[str, Any]:
        """Return the body of a request that was taken. Raises Unavailable for any other one."""
        body = response.body
        is_taken = response.status < 400 and readings.code_of(body.get("ResponseCode")) == "0"
        if not is_taken or not (body.get("ConversationID") or body.get("CheckoutRequestID")):
            shown = body.get("errorCode") or body.get("ResponseCode") or response.status
            raise Unavailable(f"{self._code.name} answered {shown}, which says nothing of the request")
        return body

    def _post(self, path: str, body: Mapping[str, object], *, is_bulk: bool) -> Response:
        """Call once within the limit; after a token's error once more, with a new token: nothing was begun."""
        self._limiter.wait(is_bulk=is_bulk)
        token = self._tokens.current()
        response = self._call(path, body, token)
        if readings.code_of(response.body.get("errorCode")) in codes.TOKEN_ERRORS:
            response = self._call(path, body, self._tokens.current(but=token))
        return response

    def _call(self, path: str, body: Mapping[str, object], token: str) -> Response:
        response = self._downstream.request("POST", path, body=body, headers={"Authorization": f"Bearer {token}"})
        if response.body.get("errorCode") == codes.SPIKE:
            self._limiter.slow_down()
        return response

    def _called_back(self, kind: str) -> dict[str, object]:
        return {"ResultURL": self._callback_url(kind), "QueueTimeOutURL": self._callback_url(kind)}

    def _callback_url(self, kind: str) -> str:
        base = str(self._code.callback_url).rstrip("/")
        return f"{base}/{self._code.callback_secrets[0]}/{kind}"
