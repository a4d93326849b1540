"""Calls to real HTTP dependencies: what is returned, what is certain, and that no call exceeds its time limit."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chassis.http.breaker import CircuitBreaker, CircuitOpen, CircuitState
from chassis.http.downstream import Downstream, Unavailable, UnforeseenAnswer, parse_retry_after
from simulators.testing import SimulatorProcess, free_port, running
from support.waiting import until

TIMEOUT_S = 1.0
"""Of a call that is to fail at its time limit."""
ANSWERED_S = 20.0
"""The time limit of a call that is answered: a loaded machine takes long for that."""
SCHEDULING_S = 10.0
"""What a loaded machine may add to a time limit before the test fails. The answers that outlast a limit take longer."""

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    records = tmp_path_factory.mktemp("gateway") / "records.db"
    with running("gateway", {"BARAZA_SIMULATOR_RECORDS": str(records)}) as process:
        yield process


def to(url: str, *, timeout_s: float = ANSWERED_S, concurrency_max: int = 8, failures_max: int = 3) -> Downstream:
    return Downstream("gateway", url, timeout_s=timeout_s, concurrency_max=concurrency_max, failures_max=failures_max)


def authorize(downstream: Downstream, key: str, *, fault: str | None = None) -> int:
    """Request an authorization under a key, with a fault if one is given, and return the status."""
    body = {"amount_minor": 5, "currency": "USD", "token": "tok_visa", "reference": key}
    headers = {"X-Fault": fault} if fault else {}
    return downstream.request("POST", "/v1/authorizations", body=body, idempotency_key=key, headers=headers).status


@contextmanager
def answering(answer: Callable[[socket.socket], None], context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Listen for the duration of the block; ``answer`` gets each connection once a request has arrived on it."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                self.request.recv(65536)
                answer(self.request)
            except OSError:
                pass  # The caller closed the connection, as it should.

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

        def get_request(self) -> tuple[socket.socket, object]:
            connection, address = super().get_request()
            return (context.wrap_socket(connection, server_side=True) if context else connection), address

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"{'https' if context else 'http'}://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def send(content: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(content)


def drip(content: bytes, rest: bytes) -> Callable[[socket.socket], None]:
    """Send some content at once and the rest byte by byte, for longer than any caller waits."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(content)
        for byte in rest * 1000:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)

    return answer


def test_an_answer_has_its_status_and_body(gateway: SimulatorProcess) -> None:
    response = to(gateway.url).request("GET", "/livez")

    assert (response.status, response.body) == (200, {"status": "alive"})


def test_a_refusal_is_an_answer_and_no_failure(gateway: SimulatorProcess) -> None:
    downstream = to(gateway.url, failures_max=1)

    assert authorize(downstream, str(uuid4()), fault="decline") == 402
    assert downstream.breaker.state is CircuitState.CLOSED


@pytest.mark.parametrize(
    ("fault", "timeout_s"),
    [
        ("error", ANSWERED_S),
        ("error; status=503", ANSWERED_S),
        ("answer_lost", ANSWERED_S),
        ("hang; delay_s=3", TIMEOUT_S),
    ],
)
def test_after_a_failure_the_effect_may_have_happened(gateway: SimulatorProcess, fault: str, timeout_s: float) -> None:
    with pytest.raises(Unavailable) as raised:
        authorize(to(gateway.url, timeout_s=timeout_s), str(uuid4()), fault=fault)

    assert not raised.value.certain_no_effect


def test_a_rate_limit_has_the_time_to_retry_and_is_certain_to_have_no_effect(gateway: SimulatorProcess) -> None:
    downstream = to(gateway.url, failures_max=1)
    with pytest.raises(Unavailable) as raised:
        authorize(downstream, str(uuid4()), fault="rate_limited; retry_after_s=7")

    assert (raised.value.retry_after_s, raised.value.certain_no_effect) == (7.0, True)
    assert downstream.breaker.state is CircuitState.CLOSED


def test_a_refused_connection_is_certain_to_have_no_effect() -> None:
    with pytest.raises(Unavailable, match="cannot be reached") as raised:
        authorize(to(f"http://127.0.0.1:{free_port()}"), str(uuid4()))

    assert raised.value.certain_no_effect


def test_the_outcome_of_a_key_is_found_never_seen_or_under_way(gateway: SimulatorProcess) -> None:
    downstream, key = to(gateway.url), str(uuid4())
    assert downstream.outcome_of(key) is None

    with pytest.raises(Unavailable):
        authorize(to(gateway.url, timeout_s=TIMEOUT_S), key, fault="hang; delay_s=4")
    with pytest.raises(Unavailable, match="still busy") as raised:
        downstream.outcome_of(key)
    assert (raised.value.retry_after_s, raised.value.certain_no_effect) == (1.0, False)

    assert until(lambda: _outcome(downstream, key), "the late effect comes") == 201


def _outcome(downstream: Downstream, key: str) -> int | None:
    try:
        response = downstream.outcome_of(key)
    except Unavailable:
        return None
    return response.status if response else None


@pytest.mark.parametrize(
    ("content", "rest"),
    [(b"", b"HTTP/1.1 200 OK\r\n"), (b"HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n", b"x")],
    ids=["head", "body"],
)
def test_a_call_whose_answer_comes_byte_by_byte_ends_at_its_time_limit(content: bytes, rest: bytes) -> None:
    with answering(drip(content, rest)) as url:
        began_s = time.monotonic()
        with pytest.raises(Unavailable, match="gave no answer"):
            to(url, timeout_s=TIMEOUT_S).request("GET", "/")

        assert time.monotonic() - began_s < TIMEOUT_S + SCHEDULING_S


def test_the_time_limit_holds_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = _self_signed(tmp_path, monkeypatch)
    with answering(send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"), context) as url:
        assert to(url).request("GET", "/").status == 200
    with answering(drip(b"HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n", b"x"), context) as url:
        began_s = time.monotonic()
        with pytest.raises(Unavailable, match="gave no answer"):
            to(url, timeout_s=TIMEOUT_S).request("GET", "/")

        assert time.monotonic() - began_s < TIMEOUT_S + SCHEDULING_S


def _self_signed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Return a server's context whose certificate this process trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway.test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(pem))
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "certificate.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


@pytest.mark.parametrize(
    "content",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 6\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + b" " * 2_000_000,
        b'HTTP/1.1 402 No\r\nconnection: close\r\n\r\n{"code": "a", "detail": ["\\u0000"]}',
        b'HTTP/1.1 201 OK\r\nconnection: close\r\n\r\n{"id": "\\ud800"}',
        b'HTTP/1.1 201 OK\r\nconnection: close\r\n\r\n{"id": "1", "id": "2"}',
    ],
    ids=["no JSON", "no object", "too large", "a NUL character", "half of a pair", "two ids"],
)
def test_an_answer_without_meaning_is_unforeseen_and_releases_its_permit(content: bytes) -> None:
    with answering(send(content)) as url:
        downstream = to(url, concurrency_max=1)
        for _ in range(3):
            with pytest.raises(UnforeseenAnswer):
                downstream.request("GET", "/")


def test_a_code_that_is_no_text_is_no_code() -> None:
    content = b'HTTP/1.1 400 Bad\r\nconnection: close\r\ncontent-length: 12\r\n\r\n{"code": 17}'
    with answering(send(content)) as url:
        response = to(url).request("POST", "/", body={})

    assert response.code == ""
    with pytest.raises(UnforeseenAnswer, match="answered 400 without a code: code is missing or no text"):
        response.text("code")


def test_a_truncated_answer_is_a_lost_answer() -> None:
    content = b"HTTP/1.1 201 Created\r\ncontent-length: 60\r\n\r\n{"
    with answering(send(content)) as url, pytest.raises(Unavailable) as raised:
        to(url).request("POST", "/", body={})

    assert not raised.value.certain_no_effect


def test_a_redirect_is_not_followed() -> None:
    with answering(send(b"HTTP/1.1 307 No\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n")) as url:
        assert to(url).request("POST", "/", body={}).status == 307


def test_a_full_bulkhead_refuses_the_call_before_it_begins(gateway: SimulatorProcess) -> None:
    downstream = to(gateway.url, concurrency_max=2)
    keys = [str(uuid4()) for _ in range(3)]
    with ThreadPoolExecutor(2) as threads:
        slow = [threads.submit(authorize, downstream, key, fault="slow; delay_s=4") for key in keys[:2]]
        while not all(_outcome(to(gateway.url), key) for key in keys[:2]):
            assert not any(call.done() for call in slow), "a slow call was answered before its effect"
        with pytest.raises(Unavailable, match="bulkhead full") as raised:
            authorize(downstream, keys[2])

        assert raised.value.certain_no_effect
        assert [call.result() for call in slow] == [201, 201]
    assert authorize(downstream, keys[2]) == 201


def test_failures_open_the_circuit_and_one_success_closes_it(gateway: SimulatorProcess) -> None:
    clock = Clock()
    downstream = Downstream(
        "gateway", gateway.url, timeout_s=30.0, concurrency_max=8, failures_max=3, open_s=10.0, clock=clock
    )
    for _ in range(3):
        with pytest.raises(Unavailable, match="answered 500"):
            authorize(downstream, str(uuid4()), fault="error")

    clock.now_s += 4.0
    with pytest.raises(Unavailable, match=r"^the circuit to gateway is open$") as raised:
        authorize(downstream, str(uuid4()))
    assert (raised.value.retry_after_s, raised.value.certain_no_effect) == (6.0, True)

    clock.now_s += 6.0
    assert authorize(downstream, str(uuid4())) == 201
    assert downstream.breaker.state is CircuitState.CLOSED


class Clock:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker("courier", failures_max=2, open_s=10.0, clock=clock)


def opened(clock: Clock) -> CircuitBreaker:
    circuit = breaker(clock)
    for _ in range(2):
        circuit.failed(circuit.enter())
    assert circuit.state is CircuitState.OPEN
    return circuit


def test_a_half_open_circuit_lets_one_call_through() -> None:
    clock = Clock()
    circuit = opened(clock)
    clock.now_s += 10.0

    circuit.enter()

    with pytest.raises(CircuitOpen):
        circuit.enter()


def test_a_failed_probe_opens_the_circuit_for_its_whole_time() -> None:
    clock = Clock()
    circuit = opened(clock)
    clock.now_s += 10.0
    circuit.failed(circuit.enter())
    clock.now_s += 9.0

    with pytest.raises(CircuitOpen) as raised:
        circuit.enter()
    assert raised.value.retry_after_s == pytest.approx(1.0)


def test_failures_that_are_not_in_a_row_do_not_open_the_circuit() -> None:
    circuit = breaker(Clock())
    for _ in range(5):
        circuit.failed(circuit.enter())
        circuit.succeeded(circuit.enter())

    assert circuit.state is CircuitState.CLOSED


def test_only_the_named_failures_of_a_block_count() -> None:
    circuit = breaker(Clock())
    for error in (ConnectionError, LookupError, ConnectionError, LookupError):
        with pytest.raises(error), circuit.call(ConnectionError):
            raise error
    assert circuit.state is CircuitState.CLOSED
    for _ in range(2):
        with pytest.raises(ConnectionError), circuit.call(ConnectionError):
            raise ConnectionError
    assert circuit.state is CircuitState.OPEN
    with pytest.raises(CircuitOpen), circuit.call(ConnectionError):
        pytest.fail("it was called")


def test_what_is_always_called_passes_an_open_circuit_and_its_success_closes_it() -> None:
    clock = Clock()
    circuit = opened(clock)
    clock.now_s += 9.0
    with pytest.raises(ConnectionError), circuit.call(ConnectionError, always=True):
        raise ConnectionError
    clock.now_s += 9.0
    with pytest.raises(CircuitOpen):
        circuit.enter()
    with circuit.call(ConnectionError, always=True):
        pass
    assert circuit.state is CircuitState.CLOSED


@pytest.mark.parametrize("end", ["succeeded", "failed"])
def test_the_outcome_of_a_call_from_before_the_change_is_ignored(end: str) -> None:
    clock = Clock()
    circuit = breaker(clock)
    before = circuit.enter()
    for _ in range(2):
        circuit.failed(circuit.enter())
    clock.now_s += 10.0
    probe = circuit.enter()

    getattr(circuit, end)(before)

    during = circuit.state
    circuit.succeeded(probe)

    assert (during, circuit.state) == (CircuitState.HALF_OPEN, CircuitState.CLOSED)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("99999999", 3600.0),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30.0),
        ("Sat, 21 Nov 2026 11:59:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, NOW) == seconds


@pytest.mark.parametrize("url", ["", "127.0.0.1:80", "ftp://127.0.0.1", "http://"])
def test_an_invalid_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="no address of an HTTP dependency"):
        to(url)


def test_an_error_that_its_adapter_reads_is_an_answer_and_no_failure(gateway: SimulatorProcess) -> None:
    downstream = Downstream(
        "gateway", gateway.url, timeout_s=ANSWERED_S, concurrency_max=8, failures_max=1, reads_error=lambda body: True
    )
    for _ in range(2):
        assert authorize(downstream, str(uuid4()), fault="error") == 500
    assert downstream.breaker.state is CircuitState.CLOSED
