"""``python -m simulators.momo``: collections and disbursements as MTN MoMo has them, with books of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.routing import Route

from simulators.mobile import books, phones, server
from simulators.mobile.callbacks import Happen
from simulators.mobile.doors import Pay
from simulators.mobile.face import Operation
from simulators.mobile.faults import Fault, Kind
from simulators.mobile.server import Provider, ProviderKind
from simulators.mobile.tariffs import SHILLING
from simulators.momo import requests, tokens
from simulators.momo.dialect import MomoDialect
from simulators.momo.requests import COLLECTION, DISBURSEMENT, REFUND, REQUEST_TO_PAY, TRANSFER
from simulators.records import JsonObject
from simulators.short_codes import ShortCodes

KEPT = frozenset({Kind.REFUSED_KEPT})
HIDDEN = frozenset({Kind.NOT_FOUND})
PATHS = {
    REQUEST_TO_PAY: ("/collection/v1_0/requesttopay", COLLECTION, requests.collect),
    TRANSFER: ("/disbursement/v1_0/transfer", DISBURSEMENT, requests.transfer),
    REFUND: ("/disbursement/v1_0/refund", DISBURSEMENT, requests.refund),
}
NAMES = {REQUEST_TO_PAY: "request_to_pay", TRANSFER: "transfer", REFUND: "refund"}
"""What faults name the operations."""
OPERATIONS = (
    *(
        Operation(
            name=NAMES[kind], path=path, apply=apply, subject=requests.subject_of(NAMES[kind]), product=product,
            own=KEPT,
        )
        for kind, (path, product, apply) in PATHS.items()
    ),
    *(
        Operation(
            name=f"{NAMES[kind]}_status", path=f"{path}/{{id}}", apply=requests.status_of(kind), methods=("GET",),
            subject=requests.subject_of(f"{NAMES[kind]}_status"), product=product, own=HIDDEN,
        )
        for kind, (path, product, _) in PATHS.items()
    ),
    *(
        Operation(
            name="balance", path=f"/{product}/v1_0/account/balance", apply=requests.balance, methods=("GET",),
            subject=requests.subject_of("balance"), product=product,
        )
        for product in (COLLECTION, DISBURSEMENT)
    ),
)  # fmt: skip


def happens(_short_codes: ShortCodes, seed: int) -> Mapping[str, Happen]:
    """Return what happens without a request."""
    later = requests.Later(operations=NAMES, seed=seed)
    return {requests.PROCESSED: later.processed, requests.PAID_AFTER: later.paid_after}


def pay(provider: Provider, wanted: Pay, _faults: tuple[Fault, ...]) -> JsonObject:
    """Let a customer pay without a prompt: only the statement shows it. Raises TooLittle."""
    records, now = provider.records, provider.clock.now()
    party = f"{wanted.msisdn} - {phones.name_of(records, wanted.msisdn).whole}"
    paid = books.Transfer(
        kind=books.PAY_IN, source=books.wallet(records, wanted.msisdn, now), amount_minor=wanted.amount * SHILLING,
        target=books.account(wanted.short_code, books.UTILITY),
        details={"party": party, "msisdn": wanted.msisdn, "reference": wanted.bill_reference},
    )  # fmt: skip
    receipt = books.enter(records, paid, now, receipt=f"{records.next_receipt(now):010d}")
    return {"receipt": receipt, "state": "completed"}


def routes(provider: Provider) -> Sequence[Route]:
    """Return what needs no token."""
    return tuple(
        Route(f"/{product}/token/", tokens.endpoint(provider, product), methods=["POST"])
        for product in (COLLECTION, DISBURSEMENT)
    )


MOMO = ProviderKind(
    name="momo", dialect=MomoDialect(), operations=OPERATIONS, happens=happens, pay=pay, routes=routes,
    others=(tokens.TOKEN,),
)  # fmt: skip

if __name__ == "__main__":
    server.run(MOMO)
