"""Runs a simulator as a process: settings from the environment, uvicorn, loopback by default."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TypeVar

import uvicorn
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from simulators.simulator import DROP

KEEP_ALIVE_S = 75
"""Longer than callers keep an idle connection, so that this side never closes one just before a request."""

SHUTDOWN_S = 1
"""How long a graceful stop waits for calls under way; calls that hang on purpose are cut off after it."""

EXIT_MISCONFIGURED = 2

SettingsType = TypeVar("SettingsType", bound=BaseSettings)


class HttpSettings(BaseSettings):
    """The address of the process. Environment: BARAZA_HTTP_HOST, BARAZA_HTTP_PORT."""

    model_config = SettingsConfigDict(env_prefix="BARAZA_")

    http_host: str = "127.0.0.1"
    http_port: int


class SimulatorSettings(HttpSettings):
    """A provider's settings. Environment: BARAZA_SIMULATOR_RECORDS (a file), BARAZA_SIMULATOR_SEED."""

    simulator_records: Path
    simulator_seed: int = 1


class DroppableProtocol(HttpToolsProtocol):
    """HTTP whose connections an application can break, which ASGI does not provide."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {DROP: self.transport.abort}  # type: ignore[dict-item]


def load(settings_type: type[SettingsType]) -> SettingsType:
    """Return the settings, or end the process with one sentence for each that is missing or invalid."""
    try:
        return settings_type()
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            name = "BARAZA_" + "_".join(str(part) for part in fault["loc"]).upper()
            print(f"{name}: {fault['msg']}. Set it in the environment.", file=sys.stderr)
        sys.exit(EXIT_MISCONFIGURED)


def serve(app: Starlette, settings: HttpSettings) -> None:
    """Serve until a signal stops the process."""
    uvicorn.run(
        app,
        host=settings.http_host,
        port=settings.http_port,
        http=DroppableProtocol,
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
