"""The settings of a process, read once in ``main`` from the environment (prefix ``BARAZA_``)."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """All settings that our processes may have. A process uses those of its own dependencies."""

    model_config = SettingsConfigDict(env_prefix="BARAZA_", extra="ignore", frozen=True)

    service: str
    kafka: str
    kafka_user: str = ""
    kafka_password_file: Path | None = None
    kafka_ca_file: Path | None = None
    registry_url: str
    database_url: str
    database_password_file: Path
    redis_url: str = "redis://127.0.0.1:6379/0"
    redis_user: str = ""
    redis_password_file: Path | None = None
    """Without it there is no login: Redis holds only what may be lost."""
    gateway_url: str = "http://127.0.0.1:7001"
    courier_url: str = "http://127.0.0.1:7002"
    jwks_url: str = "http://127.0.0.1:7003/.well-known/jwks.json"
    issuer: str = "http://127.0.0.1:7003"
    audience: str = "baraza"
    http_host: str = "127.0.0.1"
    http_port: int = 0
    timeout_factor: float = 1.0
    """Stretches or shortens every deadline of a saga; tests shorten them."""
    log_level: str = "INFO"
    otlp_url: str = ""
    """The address of an OpenTelemetry collector (OTLP over HTTP), without the path; empty: there is none."""
    zipkin_url: str = ""
    """The address of a Zipkin, for a stack without a collector; empty: there is none."""
    trace_ratio: float = 1.0
    """The share of sagas whose traces are kept, the same ones in every process."""
