"""Calls over real TLS and HTTP: the address that was checked is the one that is called, under the endpoint's name."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chassis.http.timed_connections import AddressInfo
from notifier.calling import Caller, UnknownName
from notifier.model.addresses import ForbiddenAddress, ForbiddenUrl, Rules
from support.notifiers import LOOPBACK, NotifierUnderTest
from support.receivers import Receiver, receiving

NAME = "localhost"
"""A name that may have any port where loopback is allowed; the test's resolver decides where it leads."""
PUBLIC = "198.41.0.4"


def leading_to(*rounds: Sequence[str]) -> tuple[Callable[[str, int], Sequence[AddressInfo]], list[str]]:
    """Return a resolver that answers each lookup with the next addresses, the last ones for ever, and its lookups."""
    looked_up: list[str] = []

    def look_up(host: str, port: int) -> Sequence[AddressInfo]:
        addresses = rounds[min(len(looked_up), len(rounds) - 1)]
        looked_up.append(host)
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
            for each in addresses
        ]

    return look_up, looked_up


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for the name ``localhost``, which vouches for itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture
def names() -> list[str | None]:
    """The names in the TLS handshakes so far."""
    return []


@pytest.fixture
def secure(certificates: Path, names: list[str | None]) -> Iterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    with receiving(tls=context) as receiver:
        yield receiver


def trusting(certificates: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificates))


def test_a_checked_address_is_called_under_the_endpoints_name(
    secure: Receiver, certificates: Path, names: list[str | None]
) -> None:
    look_up, looked_up = leading_to(["127.0.0.1"])
    caller = Caller(LOOPBACK, look_up=look_up, tls=trusting(certificates))
    answer = caller.call(f"https://{NAME}:{secure.port}/hooks?a=b", b"{}", {"webhook-id": "1"}, is_live=True)
    assert (answer.outcome, answer.status) == ("SUCCEEDED", 204)
    (request,) = secure.requests
    assert (request.path, request.headers["host"]) == ("/hooks?a=b", f"{NAME}:{secure.port}")
    assert names == looked_up == [NAME]


def test_a_certificate_that_nobody_vouches_for_is_refused(secure: Receiver) -> None:
    look_up, _ = leading_to(["127.0.0.1"])
    answer = Caller(LOOPBACK, look_up=look_up).call(f"https://{NAME}:{secure.port}/", b"{}", {}, is_live=True)
    assert answer.outcome == "TLS_FAILED"
    assert secure.requests == []


def test_a_certificate_of_another_name_is_refused(secure: Receiver, certificates: Path) -> None:
    look_up, _ = leading_to(["127.0.0.1"])
    caller = Caller(LOOPBACK, look_up=look_up, tls=trusting(certificates))
    answer = caller.call(f"https://127.0.0.1:{secure.port}/", b"{}", {}, is_live=True)
    assert answer.outcome == "TLS_FAILED"
    assert secure.requests == []


@pytest.mark.parametrize("addresses", [["10.0.0.1"], [PUBLIC, "10.0.0.1"], ["127.0.0.1", "169.254.169.254"], []])
def test_a_name_that_leads_inside_is_never_connected_to(secure: Receiver, addresses: list[str]) -> None:
    look_up, _ = leading_to(addresses)
    caller = Caller(LOOPBACK, look_up=look_up)
    answer = caller.call(f"https://{NAME}:{secure.port}/", b"{}", {}, is_live=True)
    assert answer.outcome == "ADDRESS_FORBIDDEN"
    assert secure.requests == []
    with pytest.raises(ForbiddenAddress):
        caller.check(f"https://{NAME}:{secure.port}/", is_live=True)


def test_a_name_that_leads_elsewhere_a_moment_later_is_checked_at_each_call(
    notifier: NotifierUnderTest,
) -> None:
    look_up, looked_up = leading_to(["127.0.0.1"], ["127.0.0.1"], ["10.0.0.1"])
    caller = Caller(LOOPBACK, look_up=look_up)
    with receiving() as receiver:
        url = f"http://{NAME}:{receiver.port}/"
        caller.check(url, is_live=False)
        endpoint, process = notifier.endpoint(url), notifier.deliverer(caller=caller)
        notifier.notify(endpoint.owner)
        notifier.deliver(process)
        notifier.notify(endpoint.owner)
        notifier.deliver(process)
        assert len(receiver.requests) == 1
        assert len(looked_up) == 3, "a call looks its name up once: the address that is checked is connected to"
    assert notifier.states(endpoint) == [("DELIVERED", 1, "SUCCEEDED"), ("DUE", 1, "ADDRESS_FORBIDDEN")]


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "017700000001", "127.1", "localhost", "0"])
def test_loopback_by_any_other_spelling_is_refused(host: str) -> None:
    caller = Caller(Rules())
    with pytest.raises((ForbiddenUrl, ForbiddenAddress, UnknownName)):
        caller.check(f"https://{host}/", is_live=True)
    assert caller.call(f"https://{host}/", b"{}", {}, is_live=True).outcome in ("ADDRESS_FORBIDDEN", "NAME_UNKNOWN")


def test_a_name_that_does_not_exist_is_unknown() -> None:
    def look_up(_host: str, _port: int) -> Sequence[AddressInfo]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    caller = Caller(Rules(), look_up=look_up)
    with pytest.raises(UnknownName):
        caller.check("https://example.com/", is_live=True)
    assert caller.call("https://example.com/", b"{}", {}, is_live=True).outcome == "NAME_UNKNOWN"


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as proxy, receiving() as receiver:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert Caller(LOOPBACK).call(receiver.url, b"{}", {}, is_live=False).outcome == "SUCCEEDED"
        assert proxy.requests == []


def test_an_address_that_was_stored_before_a_rule_is_refused_at_the_call(notifier: NotifierUnderTest) -> None:
    with receiving() as receiver:
        endpoint = notifier.endpoint(receiver.url)
        notifier.notify(endpoint.owner)
        notifier.deliver(notifier.deliverer(caller=Caller(Rules())))
        assert receiver.requests == []
    assert notifier.states(endpoint) == [("DUE", 1, "ADDRESS_FORBIDDEN")]
