"""``python -m simulators.daraja``: prompts, payouts and reversals as Daraja has them, with books of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simulators.daraja import b2c, c2b, portal, pull, queries, queue, stk, tokens, transfers
from simulators.daraja.dialect import DarajaDialect, error
from simulators.daraja.queue import Product
from simulators.mobile import server
from simulators.mobile.callbacks import Happen
from simulators.mobile.doors import Pay
from simulators.mobile.face import Operation, respond
from simulators.mobile.faults import Fault, Kind
from simulators.mobile.server import Provider, ProviderKind
from simulators.records import JsonObject
from simulators.short_codes import ShortCodes

READ = ("GET", "POST")
"""The documents have GET, and libraries that work have POST."""
OPERATIONS = (
    Operation(
        name="stk_push", path="/mpesa/stkpush/v1/processrequest", apply=stk.push, subject=stk.subject,
        about=stk.checkout_of,
    ),
    Operation(
        name="stk_query", path="/mpesa/stkpushquery/v1/query", apply=stk.query, subject=stk.query_subject,
        own=frozenset({Kind.NOT_FOUND}),
    ),
    Operation(name="register_url", path="/mpesa/c2b/v1/registerurl", apply=c2b.register_hashed, subject=c2b.subject),
    Operation(name="register_url", path="/mpesa/c2b/v2/registerurl", apply=c2b.register_masked, subject=c2b.subject),
    Operation(
        name="pull_register", path="/pulltransactions/v1/register", apply=pull.register, subject=pull.register_subject
    ),
    Operation(
        name="pull", path="/pulltransactions/v1/query", apply=pull.query, subject=pull.subject, methods=READ,
        own=frozenset({Kind.FLAT, Kind.UTC_TIMES, Kind.HASHED}),
    ),
    Operation(
        name="b2c", path="/mpesa/b2c/v3/paymentrequest", apply=b2c.pay_out, subject=b2c.subject,
        about=queue.conversation_of, own=frozenset({Kind.REFUSED_KEPT}),
    ),
    Operation(
        name="status", path="/mpesa/transactionstatus/v1/query", apply=queries.ask_status,
        subject=queries.subject_of("status"), about=queue.conversation_of, own=frozenset({Kind.NOT_FOUND}),
    ),
    Operation(
        name="balance", path="/mpesa/accountbalance/v1/query", apply=queries.ask_balance,
        subject=queries.subject_of("balance"), about=queue.conversation_of,
    ),
    Operation(
        name="reversal", path="/mpesa/reversal/v1/request", apply=transfers.reverse,
        subject=transfers.subject_of("reversal"), about=queue.conversation_of,
    ),
    Operation(
        name="b2b", path="/mpesa/b2b/v1/paymentrequest", apply=transfers.send, subject=transfers.subject_of("b2b"),
        about=queue.conversation_of,
    ),
)  # fmt: skip
PRODUCTS = {
    b2c.PAYOUT: Product(operation="b2c", process=b2c.process),
    queries.STATUS: Product(operation="status", process=queries.status),
    queries.BALANCE: Product(operation="balance", process=queries.balance, is_code_text=True),
    transfers.REVERSAL: Product(operation="reversal", process=transfers.give_back),
    transfers.BUSINESS_PAYMENT: Product(operation="b2b", process=transfers.forward),
}


def happens(_short_codes: ShortCodes, seed: int) -> Mapping[str, Happen]:
    """Return what happens without a request."""
    prompts, requests, payments = stk.Later(seed=seed), queue.Later(products=PRODUCTS, seed=seed), c2b.Later(seed=seed)
    return {
        stk.ANSWERED: prompts.answered,
        stk.PAID_LATE: prompts.paid_late,
        queue.PROCESSED: requests.processed,
        queue.TIMED_OUT: requests.timed_out,
        queue.PAID_AFTER: requests.paid_after,
        c2b.VALIDATED: payments.validated,
    }


def pay(provider: Provider, wanted: Pay, faults: tuple[Fault, ...]) -> JsonObject:
    """Let a customer pay. Raises TooLittle."""
    now = provider.clock.now()
    payment = c2b.Payment(
        short_code=wanted.short_code, msisdn=wanted.msisdn, amount=wanted.amount, reference=wanted.bill_reference,
        begun_at=now, faults=faults,
    )  # fmt: skip
    made = c2b.begin(provider.records, payment, now, provider.seed)
    return {"receipt": made.id, "state": made.state}


def routes(provider: Provider) -> Sequence[Route]:
    """Return what needs no token, and the refusal of every other path."""

    async def refuse(request: Request) -> Response:
        is_known = any(each.path == request.url.path for each in OPERATIONS)
        wrong_path = error(404, "404.001.01", "Resource not found")
        return respond(error(405, "405.001", "Method Not Allowed") if is_known else wrong_path)

    return (*portal.routes(provider), Route("/mpesa/{rest:path}", refuse, methods=["GET", "POST", "PUT"]))


DARAJA = ProviderKind(
    name="daraja", dialect=DarajaDialect(), operations=OPERATIONS, happens=happens, pay=pay, routes=routes,
    others=(tokens.TOKEN, c2b.C2B),
)  # fmt: skip

if __name__ == "__main__":
    server.run(DARAJA)
