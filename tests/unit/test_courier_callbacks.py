"""The courier's webhooks as shipping reads them: authentic ones only, and only those that report an end."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chassis.http.signatures import BadSignature, sign
from chassis.saga.answers import Accepted, Proven
from chassis.saga.attempts import Outcome
from shipping.callbacks import SIGNATURE, STAMP, CourierCallbacks, secrets_in
from shipping.collection_bodies import answer_of
from shipping.parcels import ParcelEnd, Piece, Report
from simulators import webhooks

NOW = datetime(2026, 11, 29, 10, tzinfo=UTC)
NEW, OLD = b"the new secret", b"the old secret"
CALLBACKS = CourierCallbacks(secrets=lambda: (NEW, OLD))
PIECES = [{"sku": "cup", "quantity": 1, "condition": "good"}, {"sku": "tea", "quantity": 2, "condition": "damaged"}]


def body(status: str = "arrived", **more: object) -> dict[str, object]:
    shown = {"collection_id": "COL_1", "status": status, "idempotency_key": "s:collect_parcel", "pieces": []}
    return {"event": f"collection.{status}", **shown, **more}


def signed(secret: bytes, content: bytes, at: datetime = NOW) -> list[tuple[str, str]]:
    stamp = int(at.timestamp())
    return [(STAMP, str(stamp)), (SIGNATURE, webhooks.sign(secret, content, stamp))]


@pytest.mark.parametrize("secret", [NEW, OLD])
def test_the_couriers_signature_is_accepted_under_the_secret_and_the_one_before(secret: bytes) -> None:
    content = json.dumps(body()).encode()
    CALLBACKS.authenticate(signed(secret, content), content, NOW)
    assert webhooks.sign(secret, content, int(NOW.timestamp())) == sign(secret, content, NOW)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        signed(b"another's secret", b"{}"),
        signed(NEW, b"{ }"),
        signed(NEW, b"{}", NOW - timedelta(hours=1)),
        signed(NEW, b"{}")[1:],
    ],
    ids=["unsigned", "by another", "of another body", "of another time", "without a time"],
)
def test_a_webhook_that_is_not_signed_as_agreed_is_refused(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(BadSignature):
        CALLBACKS.authenticate(headers, b"{}", NOW)


def test_the_file_of_the_secrets_is_read_anew_each_time(tmp_path: Path) -> None:
    file = tmp_path / "courier-webhook"
    file.write_bytes(OLD.replace(b" ", b"-") + b"\n")
    assert secrets_in(file) == [b"the-old-secret"]
    file.write_bytes(b"the-new-secret\nthe-old-secret\n")
    assert secrets_in(file) == [b"the-new-secret", b"the-old-secret"]


@pytest.mark.parametrize(
    ("shown", "outcome", "report"),
    [
        (
            body(pieces=PIECES),
            Outcome.SUCCEEDED,
            Report(
                end=ParcelEnd.ARRIVED,
                pieces=(Piece(sku="cup", quantity=1), Piece(sku="tea", quantity=2, is_damaged=True)),
            ),
        ),
        (body("lost"), Outcome.SUCCEEDED, Report(end=ParcelEnd.LOST)),
        (body("arrived"), Outcome.REFUSED, Report(end=ParcelEnd.ARRIVED)),
        (body("not_collected"), Outcome.REFUSED, Report(end=ParcelEnd.NOT_COLLECTED)),
        (body("called_off"), Outcome.VOIDED, Report(end=ParcelEnd.CALLED_OFF)),
    ],
)
def test_an_end_is_a_claim_about_the_attempt_with_its_key(
    shown: dict[str, object], outcome: Outcome, report: Report
) -> None:
    claim = CALLBACKS.read([], json.dumps(shown).encode())
    assert claim is not None
    assert (claim.outcome, claim.key, claim.provider_id) == (outcome, "s:collect_parcel", "courier:COL_1")
    assert (claim.reference, claim.detail) == ("COL_1", report.detail)


@pytest.mark.parametrize("status", ["accepted", "collected"])
def test_a_parcel_under_way_has_no_outcome(status: str) -> None:
    assert answer_of(body(status)) == Accepted(provider_id="courier:COL_1", reference="COL_1")
    with pytest.raises(ValueError, match="reports ends"):
        CALLBACKS.read([], json.dumps(body(status)).encode())


@pytest.mark.parametrize(
    "shown",
    [
        {},
        body("not_collectable"),
        body("returned"),
        body(collection_id=1),
        body(pieces={}),
        body(pieces=["cup"]),
        body(pieces=[{"sku": "cup", "quantity": 0, "condition": "good"}]),
        body(pieces=[{"sku": "cup", "quantity": 1, "condition": "wet"}]),
        body(pieces=[{"quantity": 1, "condition": "good"}]),
    ],
)
def test_a_body_of_another_form_proves_nothing(shown: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        answer_of(shown)


@pytest.mark.parametrize("sku", ["cup\0", "cup\ud800"])
def test_a_webhook_with_a_text_that_no_database_holds_proves_nothing(sku: str) -> None:
    shown = body(pieces=[{"sku": sku, "quantity": 1, "condition": "good"}])
    with pytest.raises(ValueError, match="no database of ours holds it"):
        CALLBACKS.read([], json.dumps(shown).encode())


def test_what_was_called_off_before_the_courier_had_it_has_no_number() -> None:
    answer = answer_of({"collection_id": None, "status": "called_off"})
    assert isinstance(answer, Proven)
    assert (answer.outcome, answer.provider_id, answer.reference) == (Outcome.VOIDED, None, None)
