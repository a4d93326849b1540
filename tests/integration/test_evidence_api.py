"""Operators read and close the evidence that matches no attempt: over HTTP, on real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from chassis.process import evidence_api, service
from chassis.process.service import Dependencies
from chassis.saga import evidence
from chassis.saga.attempts import Outcome
from chassis.saga.evidence import Claim, Received, Source
from chassis.saga.schema import service_metadata
from chassis.telemetry import table_gauges
from chassis.wire.envelope import new_id
from stack import Stack
from support.issuer import token, verifying
from support.postgres import scratch_database

AT = datetime(2026, 11, 29, 10, 2, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Office:
    """The API of a service, called by its staff, and its database."""

    client: TestClient
    engine: Engine

    def get(self, role: str = "support", **params: Any) -> Any:
        return self.client.get("/v1/evidence", params=params, headers=_as(role))

    def close(self, *ids: str, reason: str = "Another system's.", role: str = "operator") -> Any:
        body = {"evidence_ids": list(ids), "reason": reason}
        return self.client.post("/v1/evidence/close", json=body, headers=_as(role))

    def receive(self, claim: Claim | None, body: bytes = b"paid", at: datetime = AT) -> str:
        evidence_id = new_id()
        received = Received(
            id=evidence_id, provider="bank", source=Source.CALLBACK, received_at=at, headers=[], body=body, claim=claim
        )
        with self.engine.begin() as tx:
            evidence.store(tx, [received])
        return evidence_id

    def orphans(self) -> list[str]:
        """Return what is matched again at last."""
        with self.engine.begin() as tx:
            return [each.id for each in evidence.orphans(tx, now=AT + timedelta(days=9))]

    def gauges(self) -> list[float]:
        with self.engine.begin() as tx:
            return [float(value) for each in table_gauges.EVIDENCE for (value,) in each.query(tx)]


def _as(role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token('staff-1', role)}"}


@pytest.fixture
def office(infrastructure: Stack) -> Iterator[Office]:
    unused: Any = None
    with scratch_database(infrastructure) as engine, verifying() as verifier:
        service_metadata(has_awaited_steps=True).create_all(engine)
        dependencies = Dependencies(settings=unused, engine=engine, codec=unused, verifier=verifier)
        app = service.api("Toy", dependencies, evidence_api.routes(engine, clock=lambda: AT))
        with TestClient(app) as client:
            yield Office(client=client, engine=engine)


def test_evidence_without_an_attempt_is_listed_as_it_came_the_oldest_first(office: Office) -> None:
    unread = office.receive(None, b"\x00\xff{raw")
    claim = Claim(outcome=Outcome.SUCCEEDED, key="k", provider_id="bank:7", reference="receipt 8")
    older = office.receive(claim, at=AT - timedelta(days=1))
    first, second = office.get().json()["evidence"]
    assert (first["id"], first["outcome"], first["key"], first["reference"]) == (older, "SUCCEEDED", "k", "receipt 8")
    assert (second["id"], second["outcome"], second["body"]) == (unread, None, "\x00\\xff{raw")
    assert [each["id"] for each in office.get(limit=1).json()["evidence"]] == [older]
    assert office.get(closed=True).json()["evidence"] == []


def test_what_an_operator_closes_is_matched_no_more_and_kept_with_the_reason(office: Office) -> None:
    wanted, other = office.receive(None), office.receive(None)
    assert office.close(wanted.lower(), reason=" It is of another shop. ").json() == {"closed": [wanted]}
    assert office.orphans() == [other]
    assert office.gauges()[0] == 1, "its alert ends"
    assert [each["id"] for each in office.get().json()["evidence"]] == [other]
    (closed,) = office.get(closed=True).json()["evidence"]
    assert (closed["id"], closed["body"]) == (wanted, "paid")
    assert (closed["closed_by"], closed["closed_reason"]) == ("staff-1", "It is of another shop.")
    assert datetime.fromisoformat(closed["closed_at"]) == AT
    assert office.close(wanted, reason="Once more.").json() == {"closed": []}, "the first reason stays"


def test_what_is_matched_meanwhile_is_not_closed(office: Office) -> None:
    evidence_id = office.receive(Claim(outcome=Outcome.SUCCEEDED, key="k"))
    with office.engine.begin() as tx:
        tx.exec_driver_sql("UPDATE evidence SET match_at = NULL, saga_id = 's', step = 'pay', number = 1")
    assert office.close(evidence_id).json() == {"closed": []}
    assert office.get(closed=True).json()["evidence"] == []


@pytest.mark.parametrize("reason", ["", " ", "4111 1111 1111 1111"])
def test_a_closing_without_a_reason_that_may_be_kept_is_refused(office: Office, reason: str) -> None:
    evidence_id = office.receive(None)
    assert office.close(evidence_id, reason=reason).status_code == 422
    assert office.orphans() == [evidence_id]


def test_support_reads_and_only_operators_close(office: Office) -> None:
    evidence_id = office.receive(None)
    assert office.get("support").status_code == 200
    assert office.get("customer").status_code == 403
    assert office.close(evidence_id, role="support").status_code == 403
    assert office.client.get("/v1/evidence").status_code == 401
    assert office.orphans() == [evidence_id]
