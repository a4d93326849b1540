"""A TCP proxy that can make its clients vanish: it forwards nothing more in either direction, and closes nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

CHUNK_BYTES = 65_536


@dataclass(slots=True, kw_only=True)
class TcpProxy:
    """A proxy in front of one server, for as long as :func:`proxy_to` runs it."""

    listener: socket.socket
    upstream: tuple[str, int]
    held: list[bytes] = field(default_factory=list)
    """What has come since it vanished and is not forwarded yet."""
    _lets_through: threading.Event = field(default_factory=threading.Event)
    _is_open: bool = True
    _sockets: list[socket.socket] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    @property
    def port(self) -> int:
        """The port that it listens on, on loopback."""
        return int(self.listener.getsockname()[1])

    def vanish(self) -> None:
        """Forward nothing more. A side that closes its connection does not close the other side's."""
        self._lets_through.clear()

    def reappear(self) -> None:
        """Forward what is held, and what comes, as a network does after a delay."""
        self._lets_through.set()

    def accept(self) -> None:
        """Accept connections until the listener is shut down."""
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(self.upstream)
            self._sockets += [client, server]
            for source, target in ((client, server), (server, client)):
                thread = threading.Thread(target=self._forward, args=(source, target), daemon=True)
                self._threads.append(thread)
                thread.start()

    def close(self) -> None:
        """Close every connection, and wait until nothing runs any more."""
        self._is_open = False
        self._lets_through.set()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(CHUNK_BYTES):
                if not self._lets_through.is_set():
                    self.held.append(chunk)
                self._lets_through.wait()
                if not self._is_open:
                    return
                target.sendall(chunk)
        self._lets_through.wait()
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@contextmanager
def proxy_to(host: str, port: int, *, listens_on: int = 0) -> Iterator[TcpProxy]:
    """Run a proxy in front of a server for the block, on a port of its own choice or on the given one."""
    with socket.create_server(("127.0.0.1", listens_on)) as listener:
        proxy = TcpProxy(listener=listener, upstream=(host, port))
        proxy.reappear()
        accepting = threading.Thread(target=proxy.accept, daemon=True)
        accepting.start()
        try:
            yield proxy
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            proxy.close()
