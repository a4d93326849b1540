"""A console that takes reports of alarms, as tests send them in Alertmanager's place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from support.alertmanagers import body_of
from support.consoles import RunningConsole
from support.itsm import TicketSystem
from support.receivers import Receiver

SECRET, SECRET_BEFORE = "s-of-alertmanager-2", "s-of-alertmanager-1"


@dataclass(frozen=True, kw_only=True)
class Reporting:
    """A console that takes reports of alarms, as Alertmanager sends them."""

    console: RunningConsole

    def send(self, report: Any, secret: str = SECRET) -> httpx.Response:
        """Send a report, and return the answer."""
        return self.send_bytes(body_of(report), secret)

    def send_bytes(self, body: bytes, secret: str = SECRET) -> httpx.Response:
        headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
        return self.console.http.post(f"{self.console.url}/alarms", content=body, headers=headers)

    def taken(self, report: Any) -> str:
        """Send a report that must succeed, and return what was done."""
        answer = self.send(report)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["outcome"])

    def end_locks(self) -> None:
        """Let the time be over for which a lost answer locks its alarm."""
        for key in self.console.redis.keys("console:tickets:lock:*"):
            assert 100 < self.console.redis.ttl(key) <= 120
            self.console.redis.delete(key)

    def oldest_left_s(self) -> float:
        """Return the metric of the oldest alarm that has no ticket."""
        text = self.console.http.get(f"{self.console.url}/metrics").text
        (line,) = (each for each in text.splitlines() if each.startswith("baraza_ticket_left_oldest_seconds "))
        return float(line.partition(" ")[2])


def reset(console: RunningConsole) -> None:
    console.clock.later_s = 0.0
    for key in console.redis.keys("console:tickets*"):
        console.redis.delete(key)


def files(folder: Path, secret: str) -> dict[str, Path]:
    own, alertmanager = folder / "itsm", folder / "alertmanager"
    own.write_text(f"{secret}\n")
    alertmanager.write_text(f"{SECRET}\n{SECRET_BEFORE}\n")
    return {"tickets_secret_file": own, "tickets_alertmanager_file": alertmanager}


@dataclass(frozen=True, kw_only=True)
class Receiving(Reporting):
    """A console in front of a receiver of messages."""

    receiver: Receiver
    system: TicketSystem
    secret: str
