"""When what we log in with at Daraja ends is known in time: a password lives for 90 days, a certificate as it says."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

from cryptography import x509
from prometheus_client import REGISTRY

from mobile_money.daraja_login import Initiator
from mobile_money.readings import NAIROBI
from support.mobile_money import AT, short_code_of


def ends_at(name: str, credential: str) -> float | None:
    labels = {"name": name, "credential": credential}
    return REGISTRY.get_sample_value("baraza_money_credential_expires_timestamp_seconds", labels)


def test_the_end_of_a_password_and_of_a_certificate_are_measured_once_they_are_used(tmp_path: Path) -> None:
    code = short_code_of("http://127.0.0.1:1", tmp_path, initiator_password_set_on=date(2026, 11, 1))
    initiator = Initiator(code, lambda: AT)
    assert ends_at(code.name, "certificate") is None
    initiator.credential()
    certificate = x509.load_pem_x509_certificate((tmp_path / "certificate").read_bytes())
    assert ends_at(code.name, "certificate") == certificate.not_valid_after_utc.timestamp()
    assert ends_at(code.name, "password") == datetime(2027, 1, 30, tzinfo=NAIROBI).timestamp()


def test_a_password_whose_day_nobody_has_stated_has_no_end_that_is_known(tmp_path: Path) -> None:
    code = short_code_of("http://127.0.0.1:1", tmp_path)
    Initiator(code, lambda: AT).credential()
    assert ends_at(code.name, "certificate") is not None
    assert ends_at(code.name, "password") is None
