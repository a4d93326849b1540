"""Shipping as a process, with a database of a test and a courier of the test's choice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine

from stack import Stack, ports, postgres
from stack.services import kafka_environment

SERVICE = "shipping"


@contextmanager
def shipping(
    infrastructure: Stack, engine: Engine, courier_port: int, log: Path
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run shipping as a process for the block; yield it and its address."""
    port = ports.choose([SERVICE], {}, {})[SERVICE]
    ends = infrastructure.endpoints
    environment = {
        **os.environ,
        "BARAZA_SERVICE": SERVICE,
        **kafka_environment(infrastructure.kafka(SERVICE)),
        "BARAZA_REGISTRY_URL": ends.registry_url,
        "BARAZA_DATABASE_URL": engine.url.set(password=None).render_as_string(),
        "BARAZA_DATABASE_PASSWORD_FILE": str(infrastructure.home / "secrets" / postgres.SUPERUSER),
        "BARAZA_COURIER_URL": f"http://127.0.0.1:{courier_port}",
        "BARAZA_HTTP_PORT": str(port),
    }
    with log.open("ab") as out:
        process = subprocess.Popen([sys.executable, "-m", "shipping.main"], env=environment, stdout=out, stderr=out)
        try:
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait(10)
