"""A simulated provider of mobile money and our listener for its callbacks: both over real HTTP, each with its books."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import httpx
import uvicorn
from sqlalchemy import Engine

from chassis.process.service import Dependencies
from chassis.testing.service import types
from mobile_money import api
from mobile_money.asking import Asking
from mobile_money.inbox import Inbox
from mobile_money.short_codes import OF_DARAJA, ShortCode, ShortCodes
from simulators.testing import SimulatorProcess, free_port, running
from support.issuer import verifying
from support.mobile_money import Sending, short_code_of
from support.services import dependencies
from support.waiting import until


@dataclass
class SimulatedMoney:
    """The simulated provider, and our service with its doors open."""

    sending: Sending
    provider: SimulatorProcess

    def door(self, method: str, path: str, body: object = None) -> Any:
        """Call one of the provider's doors for tests, and return what it answers."""
        answer = httpx.request(method, f"{self.provider.url}/{path}", json=body, timeout=30)
        assert answer.is_success, answer.text
        is_json = "json" in answer.headers.get("content-type", "")
        return answer.json() if is_json else answer.text

    def settled(self, sending: Sending, wanted: str) -> list[Any]:
        """Decide about what the provider calls back, until an event of this type is published."""
        found: list[Any] = []

        def step() -> list[Any]:
            sending.now = max(sending.now, datetime.now(UTC))
            found.extend([*sending.decided(), *sending.decide()])
            return found

        until(step, f"a {wanted}", holds=lambda got: wanted in types(got), within_s=60)
        return found

    def asking(self) -> Asking:
        """Return what our service asks by itself."""
        sending = self.sending
        return Asking(sending.code, sending.providers, sending.needed, lambda: datetime.now(UTC))


@contextmanager
def simulated_money(
    engine: Engine, folder: Path, *, short_code: str = "", provider: Literal["daraja", "momo"] = "daraja"
) -> Iterator[SimulatedMoney]:
    """Yield both sides of one short code, which is one of no other test unless it is given."""
    port = free_port()
    (folder / "records").mkdir()
    code = short_code_of("http://127.0.0.1:1", folder)
    code = code.model_copy(update={"name": f"{provider}-{short_code or code.short_code}", "provider": provider})
    if short_code:
        code = code.model_copy(update={"short_code": short_code})
    if provider != "daraja":
        code = code.model_copy(update=dict.fromkeys(OF_DARAJA))
    code = code.model_copy(update={"callback_url": f"http://127.0.0.1:{port}/v1/callbacks/{code.name}"})
    settings = {
        "BARAZA_SIMULATOR_RECORDS": str(folder / "records" / f"{provider}.db"),
        "BARAZA_SIMULATOR_SHORT_CODES": str(_listed(code, folder)),
    }
    with running(provider, settings) as process, verifying() as verifier:
        code = code.model_copy(update={"url": process.url})
        if provider == "daraja":
            code = code.model_copy(update={"certificate": f"{process.url}/certificate"})
        sending = Sending(engine=engine, code=code, now=datetime.now(UTC))
        inbox = Inbox(engine)
        inbox.start()
        given = dependencies("mobile-money", verifier)
        own = Dependencies(settings=given.settings, engine=engine, codec=given.codec, verifier=verifier)
        app = api.application(own, ShortCodes(short_codes=(code,)), inbox, sending.needed)
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        try:
            until(lambda: server.started, "our listener", within_s=60)
            yield SimulatedMoney(sending=sending, provider=process)
        finally:
            server.should_exit = True
            thread.join(10)
            inbox.stop()


def _listed(code: ShortCode, folder: Path) -> Path:
    """Write the provider's file of short codes, and return it."""
    listed = {
        "short_code": code.short_code, "currency": "KES", "key_file": str(code.key_file),
        "secret_file": str(code.secret_file),
    }  # fmt: skip
    if code.provider == "daraja":
        listed |= {"passkey_file": str(code.passkey_file), "initiator": "baraza"}
        listed |= {"initiator_password_file": str(code.initiator_password_file)}
    path = folder / "codes.json"
    path.write_text(json.dumps({"short_codes": [listed]}))
    return path
