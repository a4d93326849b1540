"""Signatures of callbacks: what is accepted while a secret is replaced, and what never is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from chassis.http.signatures import TOLERANCE, BadSignature, check, sign

AT = datetime(2026, 11, 29, 10, 2, tzinfo=UTC)
STAMP = str(int(AT.timestamp()))
NEW, OLD, BODY = b"new secret", b"old secret", b'{"outcome":"paid"}'


@pytest.mark.parametrize("secret", [NEW, OLD])
def test_the_newest_secret_and_the_one_before_it_are_accepted(secret: bytes) -> None:
    check([NEW, OLD], BODY, stamp=STAMP, signature=sign(secret, BODY, AT), now=AT)
    check([NEW, OLD], BODY, stamp=STAMP, signature=sign(secret, BODY, AT).upper(), now=AT)


@pytest.mark.parametrize(
    ("secret", "body", "signed_at"),
    [(b"another", BODY, AT), (NEW, BODY + b" ", AT), (NEW, BODY, AT + timedelta(seconds=1))],
)
def test_another_secret_body_or_time_is_refused(secret: bytes, body: bytes, signed_at: datetime) -> None:
    with pytest.raises(BadSignature, match="No secret of ours"):
        check([NEW, OLD], BODY, stamp=STAMP, signature=sign(secret, body, signed_at), now=AT)


@pytest.mark.parametrize("signature", ["", "é", "00", "\ud800"])
def test_what_is_no_signature_is_refused(signature: str) -> None:
    with pytest.raises(BadSignature):
        check([NEW], BODY, stamp=STAMP, signature=signature, now=AT)


@pytest.mark.parametrize("offset", [TOLERANCE + timedelta(seconds=1), -TOLERANCE - timedelta(seconds=1)])
def test_a_body_that_was_signed_long_ago_or_ahead_is_refused(offset: timedelta) -> None:
    check([NEW], BODY, stamp=STAMP, signature=sign(NEW, BODY, AT), now=AT + TOLERANCE)
    with pytest.raises(BadSignature, match="too far"):
        check([NEW], BODY, stamp=STAMP, signature=sign(NEW, BODY, AT), now=AT + offset)


@pytest.mark.parametrize("stamp", ["", "-1", "1e9", "\u0661", "9" * 400])
def test_a_time_of_another_form_is_refused(stamp: str) -> None:
    with pytest.raises(BadSignature, match="is not a Unix time"):
        check([NEW], BODY, stamp=stamp, signature="", now=AT)


@pytest.mark.parametrize("secrets", [[], [b""], [NEW, OLD, b"older"]])
def test_no_secret_or_a_third_one_is_a_mistake_of_ours(secrets: list[bytes]) -> None:
    with pytest.raises(ValueError, match="secrets"):
        check(secrets, BODY, stamp=STAMP, signature=sign(NEW, BODY, AT), now=AT)
