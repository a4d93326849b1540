"""Mobile money's own handlers on a real database, and a Daraja over real HTTP that a test answers for.

The stub keeps what it was sent. Its shapes are those of Daraja's documentation; a callback is what a test makes of it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from sqlalchemy import select, text

from chassis.saga.handlers import Handlers
from chassis.testing.service import ServiceUnderTest
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.contract import Message
from messages.ledger import HoldPlaced
from messages.members import CollectionRequested
from messages.mobile_money import FloatReserved, ReceiptReceived, ReleaseFloat
from messages.saga import FenceSaga
from mobile_money import deciding, raw_callbacks
from mobile_money.handlers import handlers
from mobile_money.intake import Deciding
from mobile_money.lanes import LaneGate
from mobile_money.raw_callbacks import RawCallback
from mobile_money.readings import originator_of
from mobile_money.registry import Providers
from mobile_money.schema import metadata
from mobile_money.short_codes import ShortCode, ShortCodes
from mobile_money.wiring import providers_of
from proof.schemas import LocalRegistry
from support.builders import a
from support.gateway_stub import Answer, Got

NUMBERS = itertools.count(random.Random().randrange(10**6, 10**8))
PHONE = "254712345678"
FAST = 10_000.0
LOST = Answer(status=0)
AT = datetime(2026, 11, 29, 9, 0, tzinfo=UTC)
STATUS_PATH, B2C_PATH, PUSH_PATH = (
    "/mpesa/transactionstatus/v1/query", "/mpesa/b2c/v3/paymentrequest", "/mpesa/stkpush/v1/processrequest"
)  # fmt: skip


def receipt() -> str:
    """Return a new receipt's number: ten letters and digits."""
    return f"S{next(NUMBERS):09d}"


def short_code_of(url: str, folder: Path, **more: Any) -> ShortCode:
    """Return a short code at Daraja with files for its secrets, and a certificate of its own."""
    for name in ("key", "secret", "passkey", "initiator", "callback"):
        (folder / name).write_text(f"{name}-secret\n")
    (folder / "certificate").write_bytes(_certificate())
    digits = str(next(NUMBERS) % 900_000 + 100_000)
    return ShortCode(
        name=f"daraja-{digits}", provider="daraja", short_code=digits, currency="KES", url=url,
        callback_url="http://127.0.0.1:1/v1/callbacks/daraja", callback_secret_file=folder / "callback",
        key_file=folder / "key", secret_file=folder / "secret", passkey_file=folder / "passkey", initiator="baraza",
        initiator_password_file=folder / "initiator", certificate=str(folder / "certificate"),
        **{"calls_per_s": FAST, **more},
    )  # fmt: skip


def _certificate() -> bytes:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "provider")])
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    built = built.serial_number(1).not_valid_before(AT - timedelta(days=900)).not_valid_after(AT + timedelta(days=900))
    return built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@dataclass
class DarajaBooks:
    """A Daraja that takes every request, each with an id of its own."""

    taken: list[Got] = field(default_factory=list)
    listed: list[dict[str, Any]] = field(default_factory=list)
    """What a pull lists."""

    def answer(self, got: Got) -> Answer:
        path = got.line.partition(" ")[2]
        if path.startswith("/oauth/"):
            return Answer(body={"access_token": f"token-{next(NUMBERS)}", "expires_in": "3599"})
        self.taken.append(got)
        if path == "/pulltransactions/v1/query":
            code = "1000" if self.listed else "1001"
            rows = self.listed if got.body["OffSetValue"] == "0" else []
            return Answer(body={"ResponseCode": code if rows else "1001", "Response": [rows]})
        if path == PUSH_PATH:
            known = {"MerchantRequestID": "m", "CheckoutRequestID": f"ws_CO_{next(NUMBERS)}"}
            return Answer(body={**known, "ResponseCode": "0", "ResponseDescription": "ok", "CustomerMessage": "ok"})
        own = got.body.get("OriginatorConversationID", f"O-{next(NUMBERS)}")
        conversation = f"AG_20261129_{next(NUMBERS)}"
        return Answer(body={"ConversationID": conversation, "OriginatorConversationID": own, "ResponseCode": "0"})

    def of(self, path: str) -> list[Any]:
        """Return the bodies that were sent to a path."""
        return [each.body for each in self.taken if each.line.endswith(path)]


@dataclass(kw_only=True)
class Sending(ServiceUnderTest):
    """Mobile money with its own steps, for one saga."""

    name: str = "mobile-money"
    codec: Codec = field(default_factory=lambda: Codec(LocalRegistry()))
    handlers: Handlers = field(init=False)
    code: ShortCode
    now: datetime = AT
    saga_type: str = "withdrawal"
    amount_minor: int = 250_000
    phone: str = PHONE
    reference: str = field(default_factory=lambda: f"C{next(NUMBERS):011d}")
    providers: Providers = field(init=False)

    def __post_init__(self) -> None:
        self.providers = self.new_providers()
        self.handlers = Handlers.of(handlers(self.providers))

    def new_providers(self) -> Providers:
        """Return the providers as a process that has just started has them."""
        found = providers_of([self.code], self.engine, clock=lambda: self.now, concurrency_max=8)
        return replace(found, gate=LaneGate(self.engine, clock=itertools.count(0, 10).__next__))

    def restart(self) -> None:
        """Start the process again: what was in memory is gone."""
        self.calls.clear()
        self.__post_init__()

    @property
    def needed(self) -> Deciding:
        return Deciding(short_codes=ShortCodes(short_codes=(self.code,)), codec=self.codec, phone_key=b"key")

    def of_saga(self, **more: Any) -> Sending:
        """Return the same service in another saga."""
        given = {"saga_id": new_id(), "calls": [], "published": [], "letters": [], "read": [], **more}
        other = replace(self, **given)
        other.now = self.now
        return other

    def common(self, **more: Any) -> dict[str, Any]:
        return {
            "saga_id": self.saga_id, "saga_type": self.saga_type, "member_id": "00123", "provider": "daraja",
            "short_code": self.code.short_code, "phone": self.phone, "currency": "KES",
            "amount_minor": self.amount_minor, **more,
        }  # fmt: skip

    def hold(self) -> list[Message]:
        """Let the ledger have placed the hold."""
        return self.deliver(a(HoldPlaced, source="SAVINGS", **self.common()))

    def pay(self) -> list[Message]:
        """Let the float be reserved: the payout begins."""
        return self.deliver(a(FloatReserved, source="SAVINGS", **self.common()))

    def prompt(self) -> list[Message]:
        event = a(CollectionRequested, reference=self.reference, target="", **self.common(saga_type="collection"))
        return self.deliver(event)

    def send(self) -> list[Message]:
        """Make the planned call once Kafka has its announcement."""
        self.acknowledge()
        return self.call()

    def fence(self, *names: str) -> list[Message]:
        wanted = list(names or ("send_payout",))
        return self.deliver(a(FenceSaga, saga_id=self.saga_id, saga_type=self.saga_type, steps=wanted))

    def release_float(self) -> list[Message]:
        return self.deliver(
            a(ReleaseFloat, saga_id=self.saga_id, saga_type=self.saga_type, step="reserve_float", attempt=1)
        )

    @property
    def state(self) -> str:
        return self.state_of("send_payout")

    @property
    def prompting(self) -> str:
        return self.state_of("send_prompt")

    def own_id(self, number: int = 1) -> str:
        """Return our id of an attempt at the payout as Daraja has it."""
        key = f"{self.saga_id}:send_payout" if number == 1 else f"{self.saga_id}:send_payout:{number}"
        return originator_of(key)

    def checkout(self) -> str:
        """Return the provider's id of the prompt."""
        with self.engine.connect() as tx:
            query = text("SELECT provider_id FROM attempts WHERE saga_id = :id")
            return str(tx.execute(query, {"id": self.saga_id}).scalar_one()).partition(":")[2]

    def take(self, kind: str, body: object, *, remote: str = "196.201.214.200") -> str:
        """Store a callback as it comes, and return its id. Nothing is decided about it yet."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        row = RawCallback(
            id=new_id(), name=self.code.name, kind=kind, remote=remote, headers="[]", body=content,
            body_sha256=hashlib.sha256(content).hexdigest(), received_at=self.now,
        )  # fmt: skip
        with self.engine.begin() as tx:
            raw_callbacks.store(tx, [row])
        return row.id

    def decided(self) -> list[ReceiptReceived]:
        """Decide about the callbacks that wait, and return the receipts that are published because of them."""
        found: list[ReceiptReceived] = []
        while True:
            with self.engine.begin() as tx:
                decisions = deciding.decide(tx, self.needed, now=self.now)
            if decisions is None:
                return found
            found += self.read_rows(decisions.rows)

    def read_rows(self, rows: Sequence[Any]) -> list[Any]:
        with self.engine.begin() as tx:
            tx.execute(text("DELETE FROM outbox WHERE id = ANY(:ids)"), {"ids": [row.id for row in rows]})
        return [self.codec.decode(row.payload) for row in rows]

    def callback(self, kind: str, body: object, **more: str) -> list[Message]:
        """Store a callback, decide about it, and let the partition's owner decide about what it proves."""
        self.take(kind, body, **more)
        receipts = self.decided()
        return [*receipts, *self.decide()]

    def fate(self, callback_id: str) -> Any:
        with self.engine.connect() as tx:
            query = text("SELECT fate, reason, matches, decide_at FROM raw_callbacks WHERE id = :id")
            return tx.execute(query, {"id": callback_id}).one()

    def fates(self) -> list[str]:
        """Return the fates of the callbacks of this short code, in the order in which they came."""
        with self.engine.connect() as tx:
            query = text("SELECT fate FROM raw_callbacks WHERE name = :name ORDER BY received_at, id")
            return list(tx.execute(query, {"name": self.code.name}).scalars())

    def row(self, table: str = "payouts") -> Any:
        with self.engine.connect() as tx:
            query = select(metadata.tables[table]).where(metadata.tables[table].c.saga_id == self.saga_id)
            return tx.execute(query).one_or_none()

    def receipts(self) -> list[Any]:
        with self.engine.connect() as tx:
            query = text("SELECT * FROM receipts WHERE short_code = :code ORDER BY receipt")
            return list(tx.execute(query, {"code": self.code.short_code}))


def result(own_id: str, number: str = "", *, code: object = 0, **more: Any) -> dict[str, Any]:
    """Return the result of a payout, as Daraja posts it; a failing one has no parameters."""
    found: dict[str, Any] = {
        "ResultType": 0, "ResultCode": code, "ResultDesc": "text", "OriginatorConversationID": own_id,
        "ConversationID": "AG_20261129_1", "TransactionID": number or "SFF0000000",
    }  # fmt: skip
    if str(code) == "0":
        pairs = {
            "TransactionAmount": 2500, "TransactionReceipt": number, "B2CRecipientIsRegisteredCustomer": "Y",
            "ReceiverPartyPublicName": f"{PHONE} - Jane", "TransactionCompletedDateTime": "29.11.2026 12:00:30",
            "B2CUtilityAccountAvailableFunds": 90000.0, **more,
        }  # fmt: skip
        listed = [{"Key": name, "Value": value} for name, value in pairs.items() if value is not None]
        found["ResultParameters"] = {"ResultParameter": listed}
    return {"Result": found}


def status(conversation: str, *, code: object = 0, **parameters: Any) -> dict[str, Any]:
    """Return the answer to a status query."""
    listed = [{"Key": name, "Value": value} for name, value in parameters.items()]
    found: dict[str, Any] = {
        "ResultType": 0, "ResultCode": code, "ResultDesc": "text", "OriginatorConversationID": "O-1",
        "ConversationID": conversation, "TransactionID": "SFF0000001",
    }  # fmt: skip
    if listed:
        found["ResultParameters"] = {"ResultParameter": listed}
    return {"Result": found}


def paid_prompt(checkout: str, number: str, *, amount: object = 2500, phone: object = int(PHONE)) -> dict[str, Any]:
    """Return the callback of a prompt that was paid: without a reference, and a Balance without a value."""
    items = [
        {"Name": "Amount", "Value": amount}, {"Name": "MpesaReceiptNumber", "Value": number}, {"Name": "Balance"},
        {"Name": "TransactionDate", "Value": 20261129120030}, {"Name": "PhoneNumber", "Value": phone},
    ]  # fmt: skip
    known = {"MerchantRequestID": "m", "CheckoutRequestID": checkout, "ResultCode": 0, "ResultDesc": "ok"}
    return {"Body": {"stkCallback": {**known, "CallbackMetadata": {"Item": items}}}}


def ended_prompt(checkout: str, code: object) -> dict[str, Any]:
    """Return the callback of a prompt that was not paid."""
    known = {"MerchantRequestID": "m", "CheckoutRequestID": checkout, "ResultCode": code, "ResultDesc": "no"}
    return {"Body": {"stkCallback": known}}


def confirmation(short_code: str, number: str, *, reference: str, amount: str = "2500.00") -> dict[str, Any]:
    """Return the confirmation of a payment, with the payer's phone as a hash."""
    hashed = hashlib.sha256(PHONE.encode()).hexdigest()
    return {
        "TransactionType": "Pay Bill", "TransID": number, "TransTime": "20261129120030", "TransAmount": amount,
        "BusinessShortCode": short_code, "BillRefNumber": reference, "InvoiceNumber": "", "OrgAccountBalance": "1.00",
        "ThirdPartyTransID": "", "MSISDN": hashed, "FirstName": "", "MiddleName": "", "LastName": "",
    }  # fmt: skip
