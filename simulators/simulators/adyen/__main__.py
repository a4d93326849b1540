"""``python -m simulators.adyen``: Checkout payments and modifications, webhooks and settlement details."""

from __future__ import annotations

from simulators import gateway_server
from simulators.adyen import payments
from simulators.adyen.dialect import AdyenDialect
from simulators.adyen.later import handlers
from simulators.adyen.ledger import BOOKS
from simulators.adyen.notifications import sign
from simulators.face import Operation
from simulators.gateway_records import GatewayRecords
from simulators.gateway_server import GatewayKind
from simulators.records import Record

VERSIONS = ("", "/v72")
"""The paths of the API, with the version and without."""


def operations(version: str) -> tuple[Operation, ...]:
    """Return the operations under a version's path."""
    of_payment = f"{version}/payments/{{id}}"
    return (
        Operation(name="pay", path=f"{version}/payments", apply=payments.pay, subject=payments.subject),
        Operation(name="capture", path=f"{of_payment}/captures", apply=payments.capture, subject=payments.subject),
        Operation(name="cancel", path=f"{of_payment}/cancels", apply=payments.cancel, subject=payments.subject),
        Operation(name="refund", path=f"{of_payment}/refunds", apply=payments.refund, subject=payments.subject),
        Operation(name="reverse", path=f"{of_payment}/reversals", apply=payments.reverse, subject=payments.subject),
        Operation(
            name="technical_cancel", path=f"{version}/cancels", apply=payments.cancel_by_reference,
            subject=payments.subject_by_reference,
        ),
    )  # fmt: skip


def subject_of(records: GatewayRecords, kind: str, about: str) -> Record | None:
    """Return the refund or the payment that something is about; of several the newest."""
    wanted = "refund" if kind.startswith("refund") else payments.PAYMENT
    found = records.of_reference(wanted, about)
    return records.find(wanted, about) or (found[-1] if found else None)


ADYEN = GatewayKind(
    name="adyen",
    dialect=AdyenDialect(),
    operations=tuple(each for version in VERSIONS for each in operations(version)),
    books=BOOKS,
    sign=sign,
    later=handlers,
    subject_of=subject_of,
)

if __name__ == "__main__":
    gateway_server.run(ADYEN)
