"""Signatures of webhooks, judged by the standard's own package, and the secrets that make them."""

from __future__ import annotations

import base64
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from chassis.http.webhook_signing import PREFIX, headers, key_of, new_secret, sign
from notifier.domain import EventType, MerchantNotice, event_id_of
from notifier.sealing import NoKey, SealBroken, Sealing


def test_a_signature_is_what_the_package_verifies_and_signs() -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    at = datetime.now(UTC)
    for _ in range(50):
        secret = new_secret()
        body = "".join(
            chr(chance.choice((chance.randrange(32, 127), chance.randrange(0x100, 0xD7FF)))) for _ in range(9)
        )
        found = headers([secret], "msg1", at, body.encode())
        Webhook(secret).verify(body, dict(found), json_parse=False)
        assert Webhook(secret).sign("msg1", at, body) == found["webhook-signature"], seed


def test_the_specifications_own_example_has_the_same_signature() -> None:
    at = datetime.fromtimestamp(1614265330, UTC)
    signature = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", at, b'{"test": 2432232314}'
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_each_of_several_secrets_verifies_and_no_other_does() -> None:
    at, old, new = datetime.now(UTC), new_secret(), new_secret()
    found = dict(headers([new, old], "msg1", at, b"{}"))
    for secret in (old, new):
        Webhook(secret).verify("{}", found)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify("{}", found)


@pytest.mark.parametrize("change", ["id", "timestamp", "body"])
def test_the_id_the_time_and_every_byte_are_signed(change: str) -> None:
    at, secret = datetime.now(UTC), new_secret()
    found = dict(headers([secret], "msg1", at, b"{}"))
    if change == "id":
        found["webhook-id"] = "msg2"
    if change == "timestamp":
        found["webhook-timestamp"] = str(int(at.timestamp()) + 1)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify("{} " if change == "body" else "{}", found)


def test_an_attempts_time_is_signed_so_that_a_receiver_refuses_an_old_one() -> None:
    secret = new_secret()
    found = dict(headers([secret], "msg1", datetime.now(UTC) - timedelta(minutes=6), b"{}"))
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(secret).verify("{}", found)


def test_a_secret_has_the_standards_form_and_length() -> None:
    secret = new_secret()
    assert secret.startswith(PREFIX)
    assert 24 <= len(key_of(secret)) <= 64
    assert base64.b64decode(secret.removeprefix(PREFIX)) == key_of(secret)
    assert new_secret() != secret


def test_a_secret_is_stored_encrypted_and_keys_are_replaced_by_a_further_line(tmp_path: Path) -> None:
    file, secret = tmp_path / "keys", new_secret()
    file.write_text("first\n")
    sealing = Sealing(file)
    sealed = sealing.seal(secret)
    assert secret.encode() not in sealed
    assert sealing.open(sealed) == secret
    file.write_text("second\nfirst\n")
    assert sealing.open(sealed) == secret
    newer = sealing.seal(secret)
    file.write_text("second\n")
    assert sealing.open(newer) == secret
    with pytest.raises(SealBroken):
        sealing.open(sealed)


def test_without_a_key_nothing_is_encrypted(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for file in (None, tmp_path / "empty"):
        with pytest.raises(NoKey):
            Sealing(file).seal("secret")


def test_an_event_has_one_id_without_a_full_stop_and_every_type_its_own() -> None:
    ids = {event_id_of("saga", event_type) for event_type in EventType}
    assert len(ids) == len(EventType)
    assert all("." not in each for each in ids)
    assert event_id_of("saga", EventType.PING) == event_id_of("saga", EventType.PING)


def test_a_body_has_the_standards_members_in_bytes_that_never_change() -> None:
    notice = MerchantNotice(
        event_id="e", type=EventType.REFUND_FAILED, merchant_id="m", is_live=True,
        occurred_at=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), data={"payment_id": str(2**62), "refund_minor": 5},
    )  # fmt: skip
    assert notice.body == (
        '{"type":"refund.failed","timestamp":"2026-01-02T03:04:05.000006Z",'
        f'"data":{{"payment_id":"{2**62}","refund_minor":5}}}}'
    )
