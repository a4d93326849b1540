"""The simulated Stripe and Adyen as processes, with accounts of a test, and an endpoint that keeps webhooks."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from simulators.testing import SimulatorProcess, running
from support.waiting import until

HEX_KEYS = ("ab" * 32, "cd" * 32)
DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """One webhook as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def item(self) -> Any:
        """The first item of one of Adyen's."""
        return self.json["notificationItems"][0]["NotificationRequestItem"]


@dataclass
class Endpoint:
    """Takes webhooks and keeps them in the order in which they came. ``refuses`` are answered 500 first."""

    url: str
    got: list[Webhook] = field(default_factory=list)
    refuses: int = 0

    def of_stripe(self, kind: str) -> list[Any]:
        return [each.json for each in list(self.got) if each.json.get("type") == kind]

    def of_adyen(self, code: str, reference: str | None = None) -> list[Any]:
        items = [each.item for each in list(self.got) if "notificationItems" in each.json]
        return [each for each in items if each["eventCode"] == code and reference in (None, each["merchantReference"])]


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    """Serve an endpoint on a port of its own."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with lock:
                is_refused = made.refuses > 0
                made.refuses -= 1 if is_refused else 0
                if not is_refused:
                    made.got.append(Webhook(path=self.path, headers=headers, body=body))
            self.send_response(500 if is_refused else 204)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Endpoint(url=f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Gateway:
    """One simulated gateway with two accounts, and the endpoint of both."""

    process: SimulatorProcess
    hooks: Endpoint
    folder: Path
    live: str
    test: str

    @property
    def url(self) -> str:
        return self.process.url

    def admin(self, method: str, path: str, body: object = None) -> Any:
        answer = httpx.request(method, f"{self.url}/admin/{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def fault(self, operation: str, kind: str, **more: object) -> None:
        self.admin("POST", "faults", {"operation": operation, "kind": kind, **more})

    def pass_time(self, seconds: float) -> None:
        self.admin("POST", "clock", {"advance_s": seconds})

    def happens(self, kind: str, about: str, **more: object) -> None:
        self.admin("POST", "events", {"kind": kind, "about": about, **more})

    def close_batch(self) -> None:
        self.admin("POST", "batches/close", {"account": self.live})

    def feeds(self, key: str | None = None) -> dict[str, list[dict[str, str]]]:
        """Return the reports of the live account: their rows by name."""
        headers = self.sent_headers(key)
        listed = httpx.get(f"{self.url}/feeds", headers=headers).json()["feeds"]
        texts = {each["name"]: httpx.get(f"{self.url}/feeds/{each['name']}", headers=headers).text for each in listed}
        return {name: list(csv.DictReader(io.StringIO(text))) for name, text in texts.items()}

    def sent_headers(self, key: str | None = None) -> dict[str, str]:
        secret = key or self.key(self.live)
        return {"Authorization": f"Bearer {secret}", "X-API-Key": secret}

    def key(self, account: str) -> str:
        return (self.folder / f"{account}-key").read_text()

    def secrets(self, *texts: str) -> None:
        for account in (self.live, self.test):
            (self.folder / f"{account}-webhook").write_text("\n".join(texts))

    def awaits_stripe(self, kind: str, count: int = 1) -> list[Any]:
        return until(
            lambda: self.hooks.of_stripe(kind), f"{count} of {kind}", holds=lambda got: len(got) >= count, within_s=20
        )

    def awaits_adyen(self, code: str, reference: str | None = None, count: int = 1) -> list[Any]:
        return until(
            lambda: self.hooks.of_adyen(code, reference),
            f"{count} of {code}",
            holds=lambda got: len(got) >= count,
            within_s=20,
        )


@contextmanager
def gateway(name: str, folder: Path, *, requests_per_s: float | None = None) -> Iterator[Gateway]:
    """Run a gateway with a live and a test account."""
    accounts, secrets = (f"{name}-live", f"{name}-test"), ["whsec_one"] if name == "stripe" else [HEX_KEYS[0]]
    with endpoint() as hooks:
        listed = [_account(each, folder, hooks, secrets, requests_per_s) for each in accounts]
        file = folder / "accounts.json"
        file.write_text(json.dumps({"accounts": listed}))
        environment = {
            "BARAZA_SIMULATOR_RECORDS": str(folder / "records.sqlite"),
            "BARAZA_SIMULATOR_ACCOUNTS": str(file),
        }
        with running(name, environment) as process:
            yield Gateway(process=process, hooks=hooks, folder=folder, live=accounts[0], test=accounts[1])


def _account(
    name: str, folder: Path, hooks: Endpoint, secrets: Sequence[str], requests_per_s: float | None
) -> dict[str, object]:
    key, webhook = folder / f"{name}-key", folder / f"{name}-webhook"
    key.write_text(f"sk_{name}")
    webhook.write_text("\n".join(secrets))
    is_adyen, is_live = name.startswith("adyen"), name.endswith("live")
    return {
        "name": name, "is_live": is_live, "api_key_file": str(key), "webhook_secret_file": str(webhook),
        "webhook_url": f"{hooks.url}/v1/callbacks/{name}", "settlement_currency": "EUR" if is_adyen else "USD",
        "requests_per_s": requests_per_s, "time_zone": "Europe/Amsterdam" if is_adyen else "UTC",
        **({"merchant_account": f"Baraza{'Live' if is_live else 'Test'}"} if is_adyen else {}),
    }  # fmt: skip
