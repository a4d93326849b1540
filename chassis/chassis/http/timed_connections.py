"""Connections to a dependency, on which no stage of a call outlasts the call's time.

The lookup of the name, the connection, the TLS handshake, each write and each read end with it. A connection that is
closed then is reset, so the kernel sends and repeats nothing afterwards. This module never decides how long a call may
take: :func:`ending_by` receives that from its caller.
"""

from __future__ import annotations

import math
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeAlias

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

CONNECT_TIMEOUT_S = 0.5
"""A connection inside one region takes milliseconds; a longer wait means that the host is down."""

LOOKUP_TIMEOUT_S = 1.0
"""A name server that answers takes milliseconds. One that takes longer goes on, and a later call finds its result."""

ADDRESS_TTL_S = 10.0
"""How long an address is used without another lookup: calls that connect together share one."""

KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES = 10, 3, 3
"""An idle connection whose host has vanished is closed within 20 s."""

Address: TypeAlias = tuple[Any, ...]
AddressInfo: TypeAlias = tuple[int, int, int, str, Address]
"""One result of ``socket.getaddrinfo``."""

_ends_s: ContextVar[float] = ContextVar("the end of the call, on the monotonic clock", default=math.inf)


@contextmanager
def ending_by(ends_s: float) -> Iterator[None]:
    """Let every call within the block, on this thread, end by this time of the monotonic clock.

    Of nested limits the earliest holds.
    """
    token = _ends_s.set(min(ends_s, _ends_s.get()))
    try:
        yield
    finally:
        _ends_s.reset(token)


def remaining_s() -> float:
    """Return how many seconds the call of this thread has left; negative where its time is over, infinite without."""
    return _ends_s.get() - time.monotonic()


class Lookup(Protocol):
    """Where a connection's addresses come from."""

    def find(self, timeout_s: float) -> Sequence[AddressInfo]:
        """Return the addresses that may be connected to. Raises TimeoutError, OSError or UnicodeError without any."""
        ...

    def expire(self) -> None:
        """Look the name up again before the next connection: its addresses could not be connected to."""
        ...


class Addresses:
    """The addresses of one host. A lookup runs on a thread of its own: nothing can interrupt it."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._lock = threading.Lock()
        self._lookup: Future[Sequence[AddressInfo]] | None = None
        self._fresh_until_s = -math.inf

    def find(self, timeout_s: float) -> Sequence[AddressInfo]:
        """Return the addresses. Raises TimeoutError after ``timeout_s``, OSError or UnicodeError without a result."""
        with self._lock:
            lookup = self._lookup
            is_over = lookup is not None and lookup.done()
            if lookup is None or (is_over and time.monotonic() >= self._fresh_until_s):
                lookup = Future()
                threading.Thread(target=self._look_up, args=(lookup,), name="lookup", daemon=True).start()
                self._lookup = lookup
        return lookup.result(max(0.0, timeout_s))

    def expire(self) -> None:
        """Look the name up again before the next connection: its addresses could not be connected to."""
        self._fresh_until_s = -math.inf

    def _look_up(self, lookup: Future[Sequence[AddressInfo]]) -> None:
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except Exception as error:  # whatever it is, calls must not wait for this lookup any longer
            self._fresh_until_s = -math.inf
            lookup.set_exception(error)
        else:
            self._fresh_until_s = time.monotonic() + ADDRESS_TTL_S
            lookup.set_result(found)


class _TimedMixin(socket.socket):
    """A socket that sends and receives only within the time of its thread's call.

    Without it a dependency that reads or sends one byte a second would hold a call for ever: the timeout of a socket
    limits each operation alone.
    """

    def sendall(self, *args: Any) -> None:
        self._limit_writing()
        super().sendall(*args)

    def send(self, *args: Any) -> int:
        self._limit_writing()
        return super().send(*args)

    def recv_into(self, *args: Any) -> int:
        self._limit()
        return super().recv_into(*args)

    def _limit(self) -> float:
        left_s = remaining_s()
        if left_s <= 0:
            raise TimeoutError("the time of the call is over")
        self.settimeout(left_s)
        return left_s

    def _limit_writing(self) -> None:
        """Limit the next write, and how long the kernel repeats it where this process stands still afterwards."""
        left_s = self._limit()
        if sys.platform == "linux":
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(left_s * 1000)))


class _TimedSocket(_TimedMixin):
    pass


class _TimedTlsSocket(_TimedMixin, ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        self._limit_writing()
        super().do_handshake(block)


class _TimedConnection(HTTPConnection):
    """A connection to one of a host's addresses. Before each stage the remaining time is read anew."""

    def __init__(
        self,
        *args: Any,
        addresses: Lookup,
        lookup_within_s: float = LOOKUP_TIMEOUT_S,
        connect_within_s: float = CONNECT_TIMEOUT_S,
        **more: Any,
    ) -> None:
        super().__init__(*args, **more)
        self._addresses = addresses
        self._lookup_within_s = lookup_within_s
        self._connect_within_s = connect_within_s

    def _new_conn(self) -> socket.socket:
        try:
            found = self._addresses.find(min(self._lookup_within_s, remaining_s()))
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"the lookup of {self.host} took too long") from error
        except (OSError, UnicodeError) as error:
            raise NewConnectionError(self, f"the lookup of {self.host} failed: {error}") from error
        failure: OSError = OSError(f"{self.host} has no address")
        for family, kind, protocol, _, address in found:
            try:
                return _connected(family, kind, protocol, address, within_s=self._connect_within_s)
            except OSError as error:
                failure = error
        self._addresses.expire()
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, f"no connection to {self.host} in time") from failure
        raise NewConnectionError(self, f"no connection to {self.host}: {failure}") from failure


class _TimedTlsConnection(_TimedConnection, HTTPSConnection):
    pass


def _connected(family: int, kind: int, protocol: int, address: Address, *, within_s: float) -> socket.socket:
    left_s = min(within_s, remaining_s())
    if left_s <= 0:
        raise TimeoutError("the time of the call is over")
    connection = _TimedSocket(family, kind, protocol)
    try:
        _set_options(connection, connects_within_s=left_s)
        connection.settimeout(left_s)
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_options(connection: socket.socket, *, connects_within_s: float) -> None:
    """Let a close, and the end of the process, reset the connection: what has not been sent by then never is."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NEVER)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(connects_within_s * 1000)))


LINGER_NEVER = (1).to_bytes(4, sys.byteorder) + (0).to_bytes(4, sys.byteorder)
"""``struct linger``: on, for 0 s."""


def pool_of(
    url: urllib3.util.Url,
    size: int,
    *,
    lookup: Lookup | None = None,
    lookup_within_s: float = LOOKUP_TIMEOUT_S,
    connect_within_s: float = CONNECT_TIMEOUT_S,
    tls: ssl.SSLContext | None = None,
) -> urllib3.HTTPConnectionPool:
    """Return a pool of timed connections. Raises ValueError for what is no address of an HTTP dependency.

    With ``lookup`` only the addresses that it returns are connected to, under the host's own name. ``tls`` is the
    pool's from then on. A dependency far away has longer than one inside of the region.
    """
    if url.host is None or url.scheme not in ("http", "https"):
        raise ValueError(f"{url.url!r} is no address of an HTTP dependency. Write it like http://127.0.0.1:8080.")
    is_tls = url.scheme == "https"
    arguments: dict[str, Any] = {
        "addresses": lookup or Addresses(url.host.strip("[]"), url.port or (443 if is_tls else 80)),
        "lookup_within_s": lookup_within_s,
        "connect_within_s": connect_within_s,
    }
    if is_tls:
        context = tls or ssl.create_default_context()
        context.sslsocket_class = _TimedTlsSocket
        secure = urllib3.HTTPSConnectionPool(
            url.host, url.port, maxsize=size, block=True, ssl_context=context, **arguments
        )
        secure.ConnectionCls = _TimedTlsConnection
        return secure
    pool = urllib3.HTTPConnectionPool(url.host, url.port, maxsize=size, block=True, **arguments)
    pool.ConnectionCls = _TimedConnection
    return pool
