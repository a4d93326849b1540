"""The initiator of a short code at Daraja: its password, encrypted with the certificate that the provider publishes."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Final

import urllib3
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from urllib3.exceptions import HTTPError

from chassis.http.downstream import Downstream, NotTried, Unavailable
from mobile_money import credential_metrics, readings
from mobile_money.short_codes import ShortCode

TOKEN: Final = "/oauth/v1/generate?grant_type=client_credentials"
TOKEN_LIVES_S: Final = 3_599
CERTIFICATE_KEPT_S: Final = 3_600.0
CERTIFICATE_TIMEOUT_S: Final = 3.0


class Initiator:
    """The initiator of one short code, for callers in many threads. Its certificate is kept for an hour."""

    def __init__(self, short_code: ShortCode, clock: Callable[[], datetime]) -> None:
        self._code = short_code
        self._clock = clock
        self._certificate: tuple[x509.Certificate, datetime] | None = None
        self._certificate_lock = threading.Lock()

    def signed(self, at: datetime) -> dict[str, object]:
        """Return a short code with its password, which has the same time as the body."""
        assert self._code.passkey_file is not None, "a short code at Daraja has a passkey"
        stamp, passkey = readings.stamp(at), self._code.passkey_file.read_text().strip()
        password = base64.b64encode(f"{self._code.short_code}{passkey}{stamp}".encode()).decode()
        return {"BusinessShortCode": int(self._code.short_code), "Password": password, "Timestamp": stamp}

    def named(self) -> dict[str, object]:
        """Return the initiator with its encrypted password."""
        return {"Initiator": self._code.initiator, "SecurityCredential": self.credential()}

    def credential(self) -> str:
        """Return the initiator's password, encrypted for the provider."""
        assert self._code.initiator_password_file is not None, "a short code at Daraja has an initiator"
        password = self._code.initiator_password_file.read_text().strip()
        key = self._certificate_now().public_key()
        assert isinstance(key, RSAPublicKey), "Daraja's certificate has an RSA key"
        return base64.b64encode(key.encrypt(password.encode(), padding.PKCS1v15())).decode()

    def _certificate_now(self) -> x509.Certificate:
        where = self._code.certificate or ""
        with self._certificate_lock:
            known = self._certificate
            if known is None or (self._clock() - known[1]).total_seconds() > CERTIFICATE_KEPT_S:
                read = x509.load_pem_x509_certificate(self._read_certificate(where))
                known = self._certificate = (read, self._clock())
                credential_metrics.note_certificate(self._code.name, read.not_valid_after_utc)
                credential_metrics.note_password(self._code.name, self._code.initiator_password_set_on)
            return known[0]

    def _read_certificate(self, where: str) -> bytes:
        """Return the certificate in a file, or at the address where the provider publishes it. Raises Unavailable."""
        try:
            if not where.startswith(("http://", "https://")):
                return Path(where).read_bytes()
            response = urllib3.request("GET", where, timeout=CERTIFICATE_TIMEOUT_S, retries=False)
        except (OSError, HTTPError) as error:
            raise NotTried(f"the certificate of {self._code.name} cannot be read: {error}") from error
        if response.status != HTTPStatus.OK:
            raise NotTried(f"the certificate of {self._code.name} was answered with {response.status}")
        return response.data


def fetch_token(short_code: ShortCode, downstream: Downstream) -> tuple[str, float]:
    """Return a new token, which ends the one before, and its seconds to live. Raises Unavailable."""
    key, secret = short_code.key_file.read_text().strip(), short_code.secret_file.read_text().strip()
    basic = base64.b64encode(f"{key}:{secret}".encode()).decode()
    response = downstream.request("GET", TOKEN, headers={"Authorization": f"Basic {basic}"})
    token = response.body.get("access_token")
    if response.status >= HTTPStatus.BAD_REQUEST or not isinstance(token, str):
        raise Unavailable(f"{short_code.name} gives no token", certain_no_effect=True)
    return token, float(str(response.body.get("expires_in", TOKEN_LIVES_S)))
