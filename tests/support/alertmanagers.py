"""A real Alertmanager for tests, with our own routes and shorter intervals; and reports as it sends them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import yaml

from stack import debian
from stack.components import responds
from stack.settings import from_environment
from support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = ROOT / "observability" / "alertmanager.yml"
PACKAGE = "prometheus-alertmanager"
READY_WITHIN_S = 60.0
LASTS, BEGAN_BEFORE = timedelta(hours=1), timedelta(minutes=1)

Json = Any


def program() -> Path:
    """Return Alertmanager, from PATH or from Debian's archive."""
    return debian.fetch(PACKAGE, PACKAGE, from_environment().cache)


def amtool() -> Path:
    """Return its tool, which is in the same package."""
    return program().with_name("amtool")


@dataclass(frozen=True, kw_only=True)
class Alertmanager:
    """One that runs. Alerts are sent as Prometheus sends them."""

    url: str
    http: httpx.Client

    def fire(self, labels: Mapping[str, str], **annotations: str) -> None:
        """Let an alert fire until it is ended."""
        self._send(labels, annotations, ends_at=datetime.now(UTC) + LASTS)

    def end(self, labels: Mapping[str, str], **annotations: str) -> None:
        """End an alert."""
        self._send(labels, annotations, ends_at=datetime.now(UTC))

    def _send(self, labels: Mapping[str, str], annotations: Mapping[str, str], ends_at: datetime) -> None:
        began_at = datetime.now(UTC) - BEGAN_BEFORE
        times = {"startsAt": began_at.isoformat(), "endsAt": ends_at.isoformat()}
        alert = {"labels": labels, "annotations": annotations, **times}
        self.http.post(f"{self.url}/api/v2/alerts", json=[alert]).raise_for_status()


@contextmanager
def running(folder: Path, port: int, *, receiver: str, secret_file: Path) -> Iterator[Alertmanager]:
    """Run Alertmanager with the routes of the repository, whose receiver of tickets is at this address."""
    folder.mkdir(parents=True)
    configuration = yaml.safe_load(CONFIGURATION.read_text())
    for route in configuration["route"]["routes"]:
        route |= {"group_wait": "100ms", "group_interval": "1s", "repeat_interval": "1h"}
    (tickets,) = (each for each in configuration["receivers"] if each["name"] == "tickets")
    (webhook,) = tickets["webhook_configs"]
    webhook["url"] = receiver
    webhook["http_config"]["authorization"]["credentials_file"] = str(secret_file)
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(configuration))
    command = (
        str(program()), f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder / 'state'}",
        f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("w") as log, httpx.Client(trust_env=False, timeout=30) as http:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            until(lambda: responds(f"{url}/-/ready"), "Alertmanager is ready", within_s=READY_WITHIN_S)
            yield Alertmanager(url=url, http=http)
        finally:
            process.terminate()
            process.wait(15)


def report(*alerts: Json, **changes: Any) -> Json:
    """Return a report of a group as Alertmanager sends it (webhook, version 4)."""
    labels = alerts[0]["labels"]
    firing = any(each["status"] == "firing" for each in alerts)
    return {
        "receiver": "tickets",
        "status": "firing" if firing else "resolved",
        "alerts": list(alerts),
        "groupLabels": {name: labels[name] for name in ("alertname", "saga") if name in labels},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "version": "4",
        "groupKey": '{}/{severity=~"page|ticket"}:{alertname="SagasParked"}',
        "truncatedAlerts": 0,
        **changes,
    }


def alert(
    name: str = "SagasParked", status: str = "firing", *, summary: str = "3 sagas are parked.", **labels: str
) -> Json:
    """Return one alert of a report."""
    own = {"saga": "order", "step": "authorize_payment", "severity": "ticket", **labels}
    return {
        "status": status,
        "labels": {"alertname": name, **own},
        "annotations": {
            "summary": summary,
            "runbook": f"docs/operations.md#{name.lower()}",
            "console": f"/sagas?type={own['saga']}&step={own['step']}&state=NEEDS_REVIEW",
        },
        "startsAt": "2026-11-28T10:00:00.123456789Z",
        "endsAt": "0001-01-01T00:00:00Z" if status == "firing" else "2026-11-28T11:00:00.5Z",
        "generatorURL": "http://prometheus:9090/graph",
        "fingerprint": "1a30ba71cca2921f",
    }


def body_of(report_: Json) -> bytes:
    """Return a report's bytes."""
    return json.dumps(report_).encode()
