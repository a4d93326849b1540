"""The pair of keys that encrypts initiators' passwords, and initiators, whose password locks after wrong ones."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from simulators.mobile.face import Call
from simulators.mobile.records import MobileRecords
from simulators.records import JsonObject

KEY = "certificate"
RSA_BITS = 2048
VALID_DAYS = 3_650
WRONG_MAX = 3
"""This many wrong passwords lock an initiator."""
WRONG, LOCKED = "2001", "8006"


def ensure(records: MobileRecords, now: float) -> str:
    """Return the certificate, made once with its key. It runs inside a transaction."""
    kept = records.kept_under(KEY)
    if kept is None:
        kept = _made(now)
        records.keep_under(KEY, kept)
    return str(kept["certificate"])


def _made(now: float) -> JsonObject:
    key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "apigee.simulated.example")])
    begins = datetime.fromtimestamp(now, UTC) - timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=VALID_DAYS))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {"key": pem.decode(), "certificate": certificate.public_bytes(serialization.Encoding.PEM).decode()}


def check(call: Call, initiator: str) -> str:
    """Return the code of a request's initiator: 0, 2001 for a wrong name or password, 8006 for one that is locked.

    It counts what is wrong; the call runs inside a transaction.
    """
    name = f"initiator {call.short_code.short_code}"
    state = call.records.kept_under(name) or {"wrong": 0}
    wrong = int(str(state["wrong"]))
    if wrong >= WRONG_MAX:
        return LOCKED
    kept = call.records.kept_under(KEY)
    assert kept is not None, "it is made at the start"
    password = _decrypted(str(kept["key"]), call.text("SecurityCredential"))
    expected = call.short_code.initiator_password
    is_right = call.text(initiator) == call.short_code.initiator and bool(expected) and password == expected
    if is_right:
        if wrong:
            call.records.keep_under(name, None)
        return "0"
    call.records.keep_under(name, {"wrong": wrong + 1})
    return WRONG


def unlock(records: MobileRecords, short_code: str) -> None:
    """Let an initiator begin anew, as an administrator does in the portal. It runs inside a transaction."""
    records.keep_under(f"initiator {short_code}", None)


@lru_cache(maxsize=1_000)
def _decrypted(pem: str, credential: str) -> str | None:
    """Return a password that was encrypted with the certificate, None for what was not."""
    try:
        return _private(pem).decrypt(base64.b64decode(credential, validate=True), padding.PKCS1v15()).decode()
    except (binascii.Error, ValueError):
        return None


@lru_cache(maxsize=8)
def _private(pem: str) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    assert isinstance(key, rsa.RSAPrivateKey), "it was written by this module"
    return key
