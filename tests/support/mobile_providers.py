"""The simulated providers of mobile money as processes, with a short code of a test and a listener to callbacks."""

from __future__ import annotations

import base64
import csv
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509 import load_pem_x509_certificate

from simulators.testing import SimulatorProcess, running
from support.waiting import until

SHORT_CODE = "600100"
PASSKEY, PASSWORD, INITIATOR = "pass-key", "Initiator-1!", "baraza"
NAIROBI = timezone(timedelta(hours=3))
PHONE = "254712345678"
DAY_S = 86_400
CLIENT = httpx.Client(verify=False, timeout=30)
"""One client for all: each new one would read the certificates of the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    """One callback as it came."""

    method: str
    path: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def _accepted(_path: str) -> tuple[int, bytes]:
    return 200, b'{"ResultCode": 0, "ResultDesc": "Accepted"}'


@dataclass
class Listener:
    """Takes callbacks and keeps them. ``answer`` returns the status and the body for a path."""

    url: str
    got: list[Came] = field(default_factory=list)
    answer: Callable[[str], tuple[int, bytes]] = field(default_factory=lambda: _accepted)

    def begin_anew(self) -> None:
        self.got.clear()
        self.answer = _accepted

    def at(self, path: str) -> list[Came]:
        return [each for each in list(self.got) if each.path == path]

    def awaits(self, path: str, count: int = 1) -> list[Came]:
        return until(lambda: self.at(path), f"{count} at {path}", holds=lambda got: len(got) >= count, within_s=30)


@contextmanager
def listener() -> Iterator[Listener]:
    """Serve a listener on a port of its own."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with lock:
                made.got.append(Came(method=self.command, path=self.path, body=body))
            status, answer = made.answer(self.path)
            self.send_response(status)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_PUT = do_POST  # noqa: N815

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Listener(url=f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class MobileProvider:
    """One simulated provider, and the doors that both have."""

    process: SimulatorProcess
    heard: Listener
    token: str = ""

    @property
    def url(self) -> str:
        return self.process.url

    def door(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Any:
        answer = CLIENT.request(method, f"{self.url}/{path}", json=body, headers=headers, timeout=30)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def fault(self, operation: str, kind: str, **more: object) -> None:
        self.door("POST", "admin/faults", {"operation": operation, "kind": kind, **more})

    def pass_time(self, seconds: float) -> None:
        """Move the clock ahead: tokens end after an hour of it."""
        self.door("POST", "admin/clock", {"advance_s": seconds})
        self.token = ""

    def begin_anew(self) -> None:
        """Delete everything that the tests before have left."""
        self.door("POST", "admin/reset")
        self.heard.begin_anew()
        self.token = ""

    def phone(self, msisdn: str = PHONE, /, **more: object) -> Any:
        return self.door("POST", f"phones/{msisdn}", more)

    def wallet(self, msisdn: str = PHONE) -> int:
        found: int = self.door("GET", f"phones/{msisdn}")["balance_minor"]
        return found

    def has_float(self, shillings: int, account: str = "utility") -> None:
        body = {"short_code": SHORT_CODE, "account": account, "amount_minor": shillings * 100}
        self.door("POST", "float", body)

    def pays(self, shillings: int, reference: str = "00123", msisdn: str = PHONE, fault: str = "") -> Any:
        body = {"msisdn": msisdn, "short_code": SHORT_CODE, "amount": shillings, "bill_reference": reference}
        return self.door("POST", "pay", body, {"X-Fault": fault} if fault else None)

    def books(self) -> Any:
        found = self.door("GET", "books")
        assert (found["sum_minor"], found["unbalanced"]) == (0, [])
        return found

    def balance(self, account: str = "utility") -> int:
        found: int = self.books()["balances"].get(f"{SHORT_CODE}:{account}", 0)
        return found

    def callbacks(self, about: str | None = None) -> list[Any]:
        found: list[Any] = self.door("GET", f"admin/callbacks{f'?about={about}' if about else ''}")["callbacks"]
        return found

    def statement(self, account: str = "utility", fault: str = "", day: str = "") -> str:
        answer = CLIENT.get(
            f"{self.url}/statements/{SHORT_CODE}/{account}", params={"day": day} if day else None,
            headers={"X-Fault": fault} if fault else None,
        )  # fmt: skip
        assert answer.is_success, answer.text
        return answer.text

    def rows(self, account: str = "utility", fault: str = "no_preamble", day: str = "") -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.statement(account, fault, day))))


@dataclass
class Daraja(MobileProvider):
    """Daraja, and what its callers send."""

    def new_token(self) -> str:
        answer = CLIENT.get(
            f"{self.url}/oauth/v1/generate", params={"grant_type": "client_credentials"}, auth=("key", "secret")
        )
        self.token = answer.json()["access_token"]
        return self.token

    def post(self, path: str, body: object, fault: str = "", *, method: str = "POST") -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token or self.new_token()}"}
        headers |= {"X-Fault": fault} if fault else {}
        return CLIENT.request(method, f"{self.url}{path}", json=body, headers=headers, timeout=20)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.door("GET", "admin/clock")["now"], NAIROBI)

    def secured(self) -> dict[str, str]:
        stamp = self.now().strftime("%Y%m%d%H%M%S")
        password = base64.b64encode(f"{SHORT_CODE}{PASSKEY}{stamp}".encode()).decode()
        return {"BusinessShortCode": SHORT_CODE, "Password": password, "Timestamp": stamp}

    def prompt(self, shillings: int = 50, fault: str = "", **more: object) -> httpx.Response:
        body = {
            **self.secured(), "TransactionType": "CustomerPayBillOnline", "Amount": shillings, "PartyA": int(PHONE),
            "PartyB": SHORT_CODE, "PhoneNumber": int(PHONE), "CallBackURL": f"{self.heard.url}/stk",
            "AccountReference": "C12345678901", "TransactionDesc": "deposit", **more,
        }  # fmt: skip
        return self.post("/mpesa/stkpush/v1/processrequest", body, fault)

    def ask_prompt(self, checkout: str, fault: str = "") -> httpx.Response:
        return self.post("/mpesa/stkpushquery/v1/query", {**self.secured(), "CheckoutRequestID": checkout}, fault)

    def credential(self, password: str = PASSWORD) -> str:
        certificate = load_pem_x509_certificate(CLIENT.get(f"{self.url}/certificate").content)
        key = certificate.public_key()
        assert isinstance(key, rsa.RSAPublicKey)
        return base64.b64encode(key.encrypt(password.encode(), padding.PKCS1v15())).decode()

    def returns(self, name: str) -> dict[str, str]:
        return {
            "ResultURL": f"{self.heard.url}/{name}", "QueueTimeOutURL": f"{self.heard.url}/{name}-timeout",
            "Remarks": "Baraza",
        }  # fmt: skip

    def payout(self, originator: str, shillings: int = 500, fault: str = "", **more: object) -> httpx.Response:
        body = {
            "OriginatorConversationID": originator, "InitiatorName": INITIATOR,
            "SecurityCredential": self.credential(), "CommandID": "BusinessPayment", "Amount": shillings,
            "PartyA": SHORT_CODE, "PartyB": int(PHONE), "Occassion": "withdrawal", **self.returns("b2c"), **more,
        }  # fmt: skip
        return self.post("/mpesa/b2c/v3/paymentrequest", body, fault)

    def initiated(self, name: str, command: str, **more: object) -> dict[str, object]:
        return {
            "Initiator": INITIATOR, "SecurityCredential": self.credential(), "CommandID": command,
            **self.returns(name), **more,
        }  # fmt: skip

    def ask_status(self, fault: str = "", **about: str) -> httpx.Response:
        body = self.initiated("status", "TransactionStatusQuery", PartyA=SHORT_CODE, IdentifierType="4", **about)
        return self.post("/mpesa/transactionstatus/v1/query", body, fault)

    def reverse(self, receipt: str, shillings: int, fault: str = "") -> httpx.Response:
        body = self.initiated(
            "reversal", "TransactionReversal", TransactionID=receipt, Amount=shillings, ReceiverParty=SHORT_CODE,
            RecieverIdentifierType="11",
        )  # fmt: skip
        return self.post("/mpesa/reversal/v1/request", body, fault)

    def register(self, response_type: str = "Completed", version: str = "v1") -> httpx.Response:
        body = {
            "ShortCode": SHORT_CODE, "ResponseType": response_type, "ConfirmationURL": f"{self.heard.url}/confirmed",
            "ValidationURL": f"{self.heard.url}/validate",
        }  # fmt: skip
        return self.post(f"/mpesa/c2b/{version}/registerurl", body)

    def register_pull(self) -> httpx.Response:
        body = {"ShortCode": SHORT_CODE, "RequestType": "Pull", "NominatedNumber": PHONE,
                "CallBackURL": f"{self.heard.url}/pull"}  # fmt: skip
        return self.post("/pulltransactions/v1/register", body)

    def pull(self, hours: float = 47, offset: int = 0, fault: str = "") -> Any:
        now = self.now()
        body = {
            "ShortCode": SHORT_CODE, "StartDate": f"{now - timedelta(hours=hours):%Y-%m-%d %H:%M:%S}",
            "EndDate": f"{now:%Y-%m-%d %H:%M:%S}", "OffSetValue": str(offset),
        }  # fmt: skip
        return self.post("/pulltransactions/v1/query", body, fault).json()


@dataclass
class Momo(MobileProvider):
    """MoMo, and what its callers send."""

    def new_token(self, product: str = "disbursement") -> str:
        answer = CLIENT.post(f"{self.url}/{product}/token/", auth=("key", "secret"))
        token: str = answer.json()["access_token"]
        return token

    def call(
        self, path: str, reference: str = "", body: object = None, fault: str = "", *, token: str = ""
    ) -> httpx.Response:
        """Post with a reference, get without a body."""
        own = token or self.new_token(path.split("/")[1])
        headers = {"Authorization": f"Bearer {own}", "X-Callback-Url": f"{self.heard.url}/momo"}
        headers |= {"X-Reference-Id": reference} if reference else {}
        headers |= {"X-Fault": fault} if fault else {}
        return CLIENT.request("GET" if body is None else "POST", f"{self.url}{path}", json=body, headers=headers)

    def collect(self, reference: str, amount: str = "50", fault: str = "", **more: object) -> httpx.Response:
        body = {
            "amount": amount, "currency": "KES", "externalId": "C12345678901", "payerMessage": "deposit",
            "payer": {"partyIdType": "MSISDN", "partyId": PHONE}, "payeeNote": "", **more,
        }  # fmt: skip
        return self.call("/collection/v1_0/requesttopay", reference, body, fault)

    def transfer(self, reference: str, amount: str = "500", fault: str = "", **more: object) -> httpx.Response:
        body = {
            "amount": amount, "currency": "KES", "externalId": "W1", "payerMessage": "withdrawal", "payeeNote": "",
            "payee": {"partyIdType": "MSISDN", "partyId": PHONE}, **more,
        }  # fmt: skip
        return self.call("/disbursement/v1_0/transfer", reference, body, fault)

    def refund(self, reference: str, about: str, amount: str = "50") -> httpx.Response:
        body = {"amount": amount, "currency": "KES", "externalId": "R1", "payerMessage": "", "payeeNote": "",
                "referenceIdToRefund": about}  # fmt: skip
        return self.call("/disbursement/v1_0/refund", reference, body)

    def status(self, path: str, reference: str, fault: str = "") -> httpx.Response:
        return self.call(f"{path}/{reference}", fault=fault)


def parameters(result: Any) -> dict[str, Any]:
    """Return the parameters of a result; of a key that repeats the last."""
    return {each["Key"]: each.get("Value") for each in result["Result"]["ResultParameters"]["ResultParameter"]}


def items(callback: Any) -> dict[str, Any]:
    """Return the metadata of a prompt's callback."""
    found = callback["Body"]["stkCallback"]["CallbackMetadata"]["Item"]
    return {each["Name"]: each.get("Value") for each in found}


@contextmanager
def daraja(folder: Path, *, calls_per_s: float | None = None) -> Iterator[Daraja]:
    """Run Daraja with one short code."""
    with _provider("daraja", folder, calls_per_s) as (process, heard):
        yield Daraja(process=process, heard=heard)


@contextmanager
def momo(folder: Path, *, calls_per_s: float | None = None) -> Iterator[Momo]:
    """Run MoMo with one short code."""
    with _provider("momo", folder, calls_per_s) as (process, heard):
        yield Momo(process=process, heard=heard)


@contextmanager
def _provider(name: str, folder: Path, calls_per_s: float | None) -> Iterator[tuple[SimulatorProcess, Listener]]:
    texts = {"key": "key", "secret": "secret", "passkey": PASSKEY, "initiator_password": PASSWORD}
    for kind, text in texts.items():
        (folder / kind).write_text(text)
    own = {f"{kind}_file": str(folder / kind) for kind in texts if name == "daraja" or kind in ("key", "secret")}
    listed = {"short_code": SHORT_CODE, "currency": "KES", "calls_per_s": calls_per_s, **own}
    listed |= {"initiator": INITIATOR} if name == "daraja" else {}
    file = folder / "short-codes.json"
    file.write_text(json.dumps({"short_codes": [listed]}))
    environment = {
        "BARAZA_SIMULATOR_RECORDS": str(folder / "records.sqlite"),
        "BARAZA_SIMULATOR_SHORT_CODES": str(file),
    }
    with listener() as heard, running(name, environment) as process:
        yield process, heard
