"""The home's own certificate authority and its servers' certificate, for loopback on any port."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stack.errors import translated_os_errors
from stack.home import Home, replace
from stack.ports import LOOPBACK

VALID = timedelta(days=397)
"""The lifetime that public authorities give. The first start after three quarters of it makes a new certificate."""
RENEWED_BEFORE = VALID / 4
CLOCK_SKEW_MAX = timedelta(hours=1)
AUTHORITY = "ca.pem"
"""The certificate that clients trust. It is no secret."""
SERVER = "server.pem"
"""The servers' key, their certificate and the authority's, in one file."""


def authority(home: Home) -> Path:
    """Return the file of the authority's certificate."""
    return home.secrets / AUTHORITY


def server(home: Home) -> Path:
    """Return the file with the servers' key and certificates, all that a server needs."""
    return home.secrets / SERVER


def ensure(home: Home, now: datetime) -> None:
    """Create both where they are missing or expire soon. The authority's key signs once and is not kept.

    So both always change together, and the home holds nothing that could sign another certificate.
    """
    with translated_os_errors(home.secrets), home.secrets_lock:
        if not _is_fresh(authority(home), now) or not server(home).exists():
            _make(home, now)


def _is_fresh(file: Path, now: datetime) -> bool:
    if not file.exists():
        return False
    return x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc - now > RENEWED_BEFORE


def _make(home: Home, now: datetime) -> None:
    signing, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _name("Baraza stack authority")
    alone = x509.BasicConstraints(ca=True, path_length=0)
    root = _certificate(issuer, issuer, signing, now).add_extension(alone, critical=True)
    signs = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    root = root.add_extension(signs, critical=True)
    names = [x509.DNSName("localhost"), *(x509.IPAddress(ipaddress.ip_address(each)) for each in (LOOPBACK, "::1"))]
    leaf = (
        _certificate(_name("localhost"), issuer, key, now)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    root = root.add_extension(x509.SubjectKeyIdentifier.from_public_key(signing.public_key()), critical=False)
    own, signed = (
        each.sign(signing, hashes.SHA256()).public_bytes(serialization.Encoding.PEM) for each in (root, leaf)
    )
    replace(server(home), (private + signed + own).decode())
    replace(authority(home), own.decode())


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW_MAX)
        .not_valid_after(now + VALID)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def now() -> datetime:
    """Return the time, aware."""
    return datetime.now(UTC)
