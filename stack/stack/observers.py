"""The observers of ``up --observe``: Prometheus with our alert rules, and Zipkin, which keeps the traces.

No service depends on them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from stack import debian, java
from stack.components import Component, responds
from stack.errors import translated_os_errors
from stack.home import Home, replace
from stack.ports import LOOPBACK

PROMETHEUS, ZIPKIN = OBSERVERS = ("prometheus", "zipkin")
RULES = Path(__file__).resolve().parents[2] / "observability" / "alerts.yml"
HEAP_MAX = "256m"
"""Zipkin keeps the latest spans in memory and deletes the oldest."""
LISTENER = "armeria.ports[0]"
SPANS_MAX = 100_000
SCRAPE_EVERY_S = 5
KEPT_FOR = "2d"
ALERTMANAGERS = "alertmanagers.yml"
"""The file in the home with the addresses of Alertmanagers, if there are any."""


def prometheus(home: Home, cache: Path, port: int) -> Component:
    """Return Prometheus. :func:`configure` must have run before it starts."""
    options = (
        f"--config.file={_configuration(home)}",
        f"--storage.tsdb.path={home.folder(PROMETHEUS)}",
        f"--storage.tsdb.retention.time={KEPT_FOR}",
        f"--web.listen-address={LOOPBACK}:{port}",
        "--log.level=warn",
    )
    return Component(
        name=PROMETHEUS,
        service=PROMETHEUS,
        command=(str(debian.path_of(PROMETHEUS, PROMETHEUS, cache)), *options),
        is_ready=lambda: responds(f"{_url(port)}/-/ready"),
        address=_url(port),
    )


def zipkin(home: Home, jar: Path, port: int) -> Component:
    """Return Zipkin, on loopback only."""
    options = (f"-D{LISTENER}.ip={LOOPBACK}", f"-D{LISTENER}.port={port}", f"-D{LISTENER}.protocols[0]=http")
    return Component(
        name=ZIPKIN,
        service=ZIPKIN,
        command=(*java.command(home, HEAP_MAX), *options, "-jar", str(jar)),
        environment={"MEM_MAX_SPANS": str(SPANS_MAX), "SELF_TRACING_ENABLED": "false"},
        is_ready=lambda: responds(f"{_url(port)}/health"),
        address=_url(port),
    )


def traces_url(ports: Mapping[str, int]) -> str:
    """Return the address at which Zipkin accepts spans."""
    return f"{_url(ports[ZIPKIN])}/api/v2/spans"


def configure(home: Home, targets: Mapping[str, Mapping[str, int]]) -> None:
    """Write Prometheus' targets: the ports of the processes of each service. JSON is YAML as well."""
    scraped = [
        {"targets": [f"{LOOPBACK}:{port}"], "labels": {"service": service, "process": process}}
        for service, processes in targets.items()
        for process, port in processes.items()
    ]
    configuration = {
        "global": {"scrape_interval": f"{SCRAPE_EVERY_S}s", "evaluation_interval": f"{SCRAPE_EVERY_S}s"},
        "rule_files": [str(RULES)],
        # Read anew whenever it changes; without the file there is no Alertmanager.
        "alerting": {"alertmanagers": [{"file_sd_configs": [{"files": [str(home.path / ALERTMANAGERS)]}]}]},
        "scrape_configs": [{"job_name": "baraza", "static_configs": scraped}],
    }
    with translated_os_errors(home.path):
        replace(_configuration(home), json.dumps(configuration, indent=2) + "\n")


def _configuration(home: Home) -> Path:
    return home.path / "prometheus.yml"


def _url(port: int) -> str:
    return f"http://{LOOPBACK}:{port}"
