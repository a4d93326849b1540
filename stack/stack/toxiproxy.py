"""Toxiproxy between our processes and their dependencies, for stacks with network faults on demand.

Odd replicas of a service reach everything through side ``a``, even ones through side ``b``, so that one half can be cut
off while the other continues. It is built from source; ``go/go.sum`` holds the digests of its sources.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from stack import gotools
from stack.components import Component, responds
from stack.errors import translated_os_errors
from stack.gotools import GoProgram
from stack.home import Home, replace
from stack.ports import LOOPBACK

NAME = "toxiproxy"
SIDES = ("a", "b")
PROGRAM = GoProgram(
    name=NAME, package="github.com/Shopify/toxiproxy/v2/cmd/server", module=Path(__file__).with_name("go")
)


def port_name(side: str, target: str) -> str:
    """Return the name of the port through which ``side`` reaches ``target``."""
    return f"proxy-{side}-{target}"


def side_of(replica: int) -> str:
    """Return the side of a service's first, second, … process."""
    return SIDES[(replica - 1) % len(SIDES)]


def component(home: Home, cache: Path, port: int) -> Component:
    """Return the proxy. :func:`build` and :func:`configure` must have run before it starts."""
    options = ("-host", LOOPBACK, "-port", str(port), "-config", str(_configuration(home)))
    return Component(
        name=NAME,
        service=NAME,
        command=(str(binary(cache)), *options),
        environment={"LOG_LEVEL": "warn"},
        is_ready=lambda: responds(f"{url(port)}/version"),
        address=url(port),
    )


def url(port: int) -> str:
    """Return the address of the API for faults."""
    return f"http://{LOOPBACK}:{port}"


def configure(home: Home, routes: Mapping[str, tuple[int, int]]) -> None:
    """Write the proxies by name, each with its own port and its upstream's."""
    proxies = [
        {"name": name, "listen": f"{LOOPBACK}:{listen}", "upstream": f"{LOOPBACK}:{upstream}", "enabled": True}
        for name, (listen, upstream) in routes.items()
    ]
    with translated_os_errors(home.path):
        replace(_configuration(home), json.dumps(proxies, indent=2) + "\n")


def binary(cache: Path) -> Path:
    """Return the path of the program, built already or not."""
    return PROGRAM.binary(cache)


def build(cache: Path) -> None:
    """Build the program where it is missing. Raises PlatformUnsupported."""
    gotools.build(PROGRAM, cache)


def _configuration(home: Home) -> Path:
    return home.run / "toxiproxy.json"
