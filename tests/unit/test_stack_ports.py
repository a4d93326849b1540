"""The ports that a stack keeps: one that a killed process still holds is waited for, one in use is refused at once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from stack import PortTaken, ports

MEGABYTES = 800
"""The kernel needs some 0.1 s to free this much; until then the port of the killed process is held."""

HOLDER = f"""
import socket
memory = bytearray({MEGABYTES} * 2**20)
for page in range(0, len(memory), 4096):
    memory[page] = 1
with socket.socket() as server:
    server.bind(("127.0.0.1", 0))
    server.listen()
    print(server.getsockname()[1], flush=True)
    server.accept()
"""


def test_a_port_is_waited_for_while_its_killed_holder_ends() -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        port = int(holder.stdout.readline())
        with pytest.raises(PortTaken, match=rf"kept for kafka, is used by .*\(pid {holder.pid}\)"):
            ports.check({"kafka": port})
        holder.kill()
        ports.check({"kafka": port})
        assert ports.is_free(port)


def test_a_port_in_use_is_refused_with_its_holder_and_the_variable_that_changes_it() -> None:
    with socket.socket() as server:
        server.bind((ports.LOOPBACK, 0))
        server.listen()
        with pytest.raises(PortTaken, match=rf"kept for redis, .*\(pid {os.getpid()}\).*BARAZA_PORT_REDIS=PORT"):
            ports.check({"redis": server.getsockname()[1]})
