"""Alerts and dashboards query existing metrics, fire when they should, and have a page with instructions."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

import checkout.main
import checkout.tables
import ledger.main
import ledger.tables
import members.measures
import members.tables
import merchant.main
import merchant.tables
import mobile_money.measures
import mobile_money.tables
import payment.main
import payment.tables
import reconciliation.main
import reconciliation.tables
from chassis.telemetry import metrics, table_gauges
from console.tickets import ticket_metrics
from mobile_money import credential_metrics
from notifier import text_metrics, webhook_metrics
from risk import risk_metrics
from saga_tracker import saga_metrics
from saga_tracker.definitions import DEFINITIONS
from stack import debian, from_environment

ROOT = Path(__file__).resolve().parents[2]
OBSERVABILITY = ROOT / "observability"
ALERTS = yaml.safe_load((OBSERVABILITY / "alerts.yml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
OWN = (
    ledger.main.IMBALANCE,
    ledger.main.OVERDUE,
    checkout.main.OVERDUE,
    payment.main.NOTICES,
    merchant.main.OVERDUE,
    payment.main.OVERDUE,
    reconciliation.main.OVERDUE,
    *members.measures.MEASURES,
    *reconciliation.main.MEASURES,
    *webhook_metrics.MEASURES,
    *text_metrics.MEASURES,
    *mobile_money.measures.MEASURES,
)
"""The measures of single services."""
NAME = re.compile(r"\bbaraza[a-z0-9_:]*\b")
PROMTOOL_TIMEOUT_S = 60


def measured() -> set[str]:
    """Return the name of every series that our processes export, or that a rule records."""
    found = {rule["record"] for rule in RULES if "record" in rule}
    tables = (*table_gauges.OUTBOX, *table_gauges.WAITING, *table_gauges.EVIDENCE)
    gauges = (*tables, *saga_metrics.MEASURES, *OWN)
    found.update(measure.name for measure in gauges)
    modules = (metrics, saga_metrics, webhook_metrics, text_metrics, risk_metrics, credential_metrics, ticket_metrics)
    for module in modules:
        for metric in vars(module).values():
            if isinstance(metric, MetricWrapperBase):
                family = next(iter(metric.describe()))
                kinds = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
                found.update(family.name + suffix for suffix in kinds[family.type])
    return found


def queries() -> Iterator[str]:
    yield from (rule["expr"] for rule in RULES)
    for dashboard in (OBSERVABILITY / "dashboards").glob("*.json"):
        panels = json.loads(dashboard.read_text())["panels"]
        yield from (target["expr"] for panel in panels for target in panel["targets"])


def test_every_query_names_a_metric_that_exists() -> None:
    queried = {name for query in queries() for name in NAME.findall(query)}
    assert queried - measured() == set()
    assert len(queried) > 20


def test_each_saga_is_counted_where_its_requests_are_undecided() -> None:
    modules = (
        checkout.tables,
        ledger.tables,
        members.tables,
        merchant.tables,
        mobile_money.tables,
        payment.tables,
        reconciliation.tables,
    )
    queried = " ".join(str(module.OVERDUE) for module in modules)
    counted = re.findall(r"SELECT '(\w+)', count", queried)
    assert len(counted) == len(set(counted))
    assert set(counted) == {definition.name for definition in DEFINITIONS.values()}


def test_every_alert_has_a_page_with_instructions() -> None:
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    alerts = [rule for rule in RULES if "alert" in rule]
    assert {rule["alert"] for rule in alerts} == set(headings) & {rule["alert"] for rule in alerts}
    for rule in alerts:
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"


def test_every_alert_has_a_test_with_promtool(promtool: Path) -> None:
    tested = set(re.findall(r"alertname: (\w+)", (OBSERVABILITY / "alerts_test.yml").read_text()))
    assert tested == {rule["alert"] for rule in RULES if "alert" in rule}
    command = [str(promtool), "test", "rules", "alerts_test.yml"]
    done = subprocess.run(
        command, cwd=OBSERVABILITY, capture_output=True, text=True, timeout=PROMTOOL_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboards_are_current() -> None:
    command = [sys.executable, str(OBSERVABILITY / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PROMTOOL_TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def promtool() -> Path:
    """Prometheus' own tool, from PATH or from Debian's archive."""
    return debian.fetch("prometheus", "promtool", from_environment().cache)
