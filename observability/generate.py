"""Writes the Grafana dashboards from the panels below: ``python observability/generate.py [--check]``.

Grafana reads the JSON. It is generated, so that a panel is a few lines here and is reviewed as such.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chassis.values.money import EXPONENTS, codes_of

DASHBOARDS = Path(__file__).with_name("dashboards")
WIDTH = 24
HEIGHT = 8
QUANTILE = "histogram_quantile({q}, sum by ({by}) (rate({name}_bucket[1m])))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A chart or a figure: a title, the queries by legend, and the unit in Grafana's words."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8


def p(quantile: float, name: str, *by: str) -> str:
    """Return the query for a quantile of a histogram over the last minute."""
    return QUANTILE.format(q=quantile, by=", ".join(("le", *by)), name=name)


WAR_ROOM = (
    Panel(
        title="Sagas started, confirmed and compensated, per second",
        queries={
            "{{saga}} started": "sum by (saga) (rate(baraza_sagas_started_total[1m]))",
            "{{saga}} {{state}}": "sum by (saga, state) (rate(baraza_sagas_ended_total[1m]))",
        },
        unit="ops",
        width=12,
    ),
    Panel(
        title="Pending sagas, by step",
        queries={"{{saga}} {{step}}": "sum by (saga, step) (baraza_sagas_pending)"},
        width=12,
    ),
    Panel(
        title="Duration of a saga, by quantile",
        queries={
            "{{saga}} {{state}} p50": p(0.5, "baraza_saga_seconds", "saga", "state"),
            "{{saga}} {{state}} p99": p(0.99, "baraza_saga_seconds", "saga", "state"),
        },
        unit="s",
    ),
    Panel(title="Duration of a step, p99", queries={"{{step}}": p(0.99, "baraza_step_seconds", "step")}, unit="s"),
    Panel(
        title="Share of compensated sagas among all that ended",
        queries={"{{saga}}": "baraza:compensated:ratio5m"},
        unit="percentunit",
    ),
    Panel(
        title="Step results, by type, per second",
        queries={"{{step}} {{type}}": "sum by (step, type) (rate(baraza_step_answers_total[1m]))"},
        unit="ops",
    ),
    Panel(
        title="Duration of a provider call, p99",
        queries={"{{downstream}}": p(0.99, "baraza_call_seconds", "downstream")},
        unit="s",
    ),
    Panel(
        title="Provider calls, by outcome, per second",
        queries={
            "{{downstream}} {{outcome}}": "sum by (downstream, outcome) (rate(baraza_call_seconds_count[1m]))",
            "{{downstream}} circuit open": "max by (downstream) (baraza_breaker_open)",
        },
    ),
    Panel(
        title="Consumer lag, by service and topic",
        queries={"{{service}} {{topic}}": "max by (service, topic) (baraza_consumer_lag_seconds)"},
        unit="s",
    ),
    Panel(
        title="Consumer lag in messages, by service and topic",
        queries={"{{service}} {{topic}}": "sum by (service, topic) (baraza_consumer_lag_messages)"},
    ),
    Panel(
        title="Age of the oldest outbox message, by service",
        queries={"{{service}}": "max by (service) (baraza_outbox_age_seconds)"},
        unit="s",
    ),
    Panel(
        title="Retries and dead letters, per minute",
        queries={
            "retry {{handler}}": "sum by (handler) (rate(baraza_retries_total[1m])) * 60",
            "✝ {{topic}}": "sum by (topic) (rate(baraza_dead_letters_total[1m])) * 60",
        },
    ),
    Panel(
        title="Parked sagas and age of the oldest, by step",
        queries={
            "{{step}}": "sum by (step) (baraza_sagas_parked)",
            "{{step}} oldest, hours": "max by (step) (baraza_sagas_parked_oldest_seconds) / 3600",
        },
    ),
    Panel(
        title="Sagas that wait for an outcome that comes later, and age of the oldest, by step",
        queries={
            "{{saga}} {{step}}": "sum by (saga, step) (baraza_sagas_awaiting)",
            "{{saga}} {{step}} oldest, hours": "max by (saga, step) (baraza_sagas_awaiting_oldest_seconds) / 3600",
        },
    ),
    Panel(
        title="Parked messages, by handler",
        queries={"{{handler}}": "sum by (handler) (baraza_held_messages)"},
    ),
    Panel(
        title="Webhooks: attempts by outcome, per second, and the share that succeeds",
        queries={
            "{{outcome}}": "sum by (outcome) (rate(baraza_webhook_attempts_total[1m]))",
            "succeeded": "baraza:webhooks_succeeded:ratio30m",
        },
    ),
    Panel(
        title="Webhooks: age of the oldest one due, and disabled endpoints by reason",
        queries={
            "oldest due": "max(baraza_webhook_oldest_due_seconds)",
            "{{reason}}": "max by (reason) (baraza_webhook_endpoints_disabled)",
        },
    ),
    Panel(
        title="Order requests by status, per second, and p99",
        queries={
            "{{status}}": 'sum by (status) (rate(baraza_http_request_seconds_count{route="/v1/orders"}[1m]))',
            "p99, s": p(0.99, "baraza_http_request_seconds"),
        },
    ),
)


def in_major_units(query: str) -> str:
    """Return ``query`` for each number of decimals that a currency has (ISO 4217), divided accordingly."""
    others = [exponent for exponent in sorted(set(EXPONENTS.values())) if exponent != 2]
    parts = [query % f'currency!~"{"|".join(code for each in others for code in codes_of(each))}"' + " / 100"]
    parts += [query % f'currency=~"{"|".join(codes_of(each))}"' + f" / {10**each}" for each in others]
    return " or ".join(parts)


FINANCE = (
    Panel(
        title="Debits minus credits",
        queries={"{{currency}}": in_major_units("sum by (currency) (baraza_ledger_imbalance_minor{%s})")},
        kind="stat",
    ),
    Panel(title="Parked sagas", queries={"parked": "sum(baraza_sagas_parked)"}, kind="stat"),
    Panel(
        title="Age of the oldest parked saga",
        queries={"age": "max(baraza_sagas_parked_oldest_seconds)"},
        unit="s",
        kind="stat",
    ),
    Panel(
        title="Payment results, by type, per minute",
        queries={"{{type}}": 'sum by (type) (rate(baraza_step_answers_total{step=~".+_payment"}[5m])) * 60'},
        width=12,
    ),
    Panel(
        title="Ledger results, by type, per minute",
        queries={"{{type}}": 'sum by (type) (rate(baraza_step_answers_total{step="post_ledger"}[5m])) * 60'},
        width=12,
    ),
    Panel(
        title="Ended sagas of the last hour, by state and cause",
        queries={"{{state}} {{cause}}": "sum by (state, cause) (increase(baraza_sagas_ended_total[1h]))"},
        width=12,
    ),
    Panel(
        title="Late successes of the last hour, by step",
        queries={"{{step}}": "sum by (step) (increase(baraza_late_successes_total[1h]))"},
        width=12,
    ),
)


def dashboard(uid: str, title: str, panels: tuple[Panel, ...]) -> dict[str, Any]:
    """Return a dashboard as Grafana reads it, with its panels placed row by row."""
    placed, x, y = [], 0, 0
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > WIDTH:
            x, y = 0, y + HEIGHT
        placed.append(_panel(number, panel, x, y))
        x += panel.width
    return {
        "uid": uid,
        "title": title,
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "tags": ["baraza"],
        "panels": placed,
    }


def _panel(number: int, panel: Panel, x: int, y: int) -> dict[str, Any]:
    return {
        "id": number,
        "title": panel.title,
        "type": panel.kind,
        "datasource": {"type": "prometheus", "uid": "prometheus"},
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0 if panel.kind == "timeseries" else None}},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend}
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def files() -> dict[Path, str]:
    """Return the text of every dashboard, by file."""
    made = {
        "war-room": dashboard("baraza-war-room", "Baraza · launch day", WAR_ROOM),
        "finance": dashboard("baraza-finance", "Baraza · finance", FINANCE),
    }
    return {DASHBOARDS / f"{name}.json": json.dumps(each, indent=1) + "\n" for name, each in made.items()}


def main() -> int:
    """Write the files; with ``--check``, only report those that are not current."""
    stale = [path for path, text in files().items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path} is not current; run python observability/generate.py.")
        return bool(stale)
    for path in stale:
        path.write_text(files()[path])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
