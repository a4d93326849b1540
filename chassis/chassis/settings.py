"""The settings of a process, read once in ``main`` from the environment (prefix ``BARAZA_``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ISSUER_LENGTH_MAX: Final = 256
BREAK_GLASS_ISSUER: Final = "baraza-break-glass"
"""The name in tokens that a sealed key signed while the identity provider is away."""
BREAK_GLASS_ROLES: Final = frozenset({"operator", "support"})
"""What such a token can ever give. It proves no person, so it approves nothing."""
GATHER_MAX_S: Final = 0.5
"""A replica that starts publishes rows of its predecessors that are older than a second; none may still be waiting."""


class TrustedIssuer(BaseModel):
    """One issuer whose tokens are accepted.

    ``roles`` maps values of the claim to our roles; without it the values are our roles. ``may_be`` are the roles that
    the issuer can ever give, ``always`` those that each of its tokens has. ``subject_alone``: logs name its subjects
    without the issuer. It is for the issuer that was the only one before, and for no other. ``jwks`` are its public
    keys themselves where they are not fetched; those of break-glass never are, since it is for when nothing answers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str = Field(min_length=1, max_length=ISSUER_LENGTH_MAX)
    jwks_url: str = ""
    jwks: Mapping[str, Any] | None = None
    audience: str = Field(min_length=1)
    subject_claim: str = Field(default="sub", min_length=1)
    roles_claim: str = Field(default="roles", min_length=1)
    roles: Mapping[str, str] = Field(default_factory=dict)
    may_be: tuple[str, ...] = Field(min_length=1)
    always: tuple[str, ...] = ()
    subject_alone: bool = False

    @model_validator(mode="after")
    def _has_keys(self) -> TrustedIssuer:
        if bool(self.jwks_url) == (self.jwks is not None):
            raise ValueError(f"The issuer {self.issuer} needs jwks_url or jwks, and not both.")
        listed = [] if self.jwks is None else self.jwks.get("keys", [])
        if any(isinstance(each, Mapping) and "d" in each for each in listed):
            raise ValueError(
                f"jwks of the issuer {self.issuer} has a private key (d); list the public one, and replace the key."
            )
        return self

    @model_validator(mode="after")
    def _is_sealed(self) -> TrustedIssuer:
        if self.issuer != BREAK_GLASS_ISSUER:
            return self
        if self.jwks is None or self.always or self.roles or self.subject_alone:
            raise ValueError(f"{self.issuer} has jwks, and neither always, nor roles, nor subject_alone.")
        if beyond := sorted(set(self.may_be) - BREAK_GLASS_ROLES):
            raise ValueError(
                f"{self.issuer} cannot give {', '.join(beyond)}: its tokens prove no person. "
                f"It may be {' or '.join(sorted(BREAK_GLASS_ROLES))}."
            )
        return self

    @model_validator(mode="after")
    def _gives_what_it_may(self) -> TrustedIssuer:
        if beyond := sorted({*self.roles.values(), *self.always}.difference(self.may_be)):
            raise ValueError(
                f"The issuer {self.issuer} is set to give {', '.join(beyond)}, which may_be does not list. "
                f"Add it to may_be, or take it out of roles and always."
            )
        return self


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
    courier_webhook_secret_file: Path | None = None
    """The secrets that sign the courier's webhooks, one a line: the newest, and the one before while it is replaced.

    Without it shipping takes no webhook, and queries the courier.
    """
    gateway_accounts_file: Path | None = None
    """The accounts at gateways (:mod:`chassis.http.gateway_accounts`). Without it no merchant's payment is taken."""
    short_codes_file: Path | None = None
    """Our short codes at providers of mobile money. Without it no phone is prompted or paid."""
    phone_key_file: Path | None = None
    """The key that hashes payers' phones, so that a member is found by one. Without it no phone is hashed."""
    risk_rules_file: Path | None = None
    """The rules by which payments are decided. Without it risk has those that it is shipped with."""
    payer_key_file: Path | None = None
    """The key that hashes a merchant's payers. Without it no merchant's payment is taken."""
    merchant_token_key_file: Path | None = None
    """The EC keys (P-256, PEM) of merchants' short tokens: the first signs, all are published."""
    merchant_jwks_url: str = ""
    """The published keys of merchants' short tokens; empty: only the issuer's tokens are accepted."""
    webhook_key_file: Path | None = None
    """The keys that encrypt the secrets of merchants' endpoints, one a line: the newest, and those before it.

    Without it merchants have no endpoints.
    """
    webhook_loopback: bool = False
    """Whether endpoints may be on this machine, in test mode by HTTP as well: for tests and simulators alone."""
    webhook_forbidden_networks: str = ""
    """Networks that no endpoint may be in, with commas between: the deployment's own public addresses."""
    lake_url: str = ""
    """Where raw feeds of gateways and Parquet files are kept: a folder, or an object store such as ``s3://bucket/path``.

    Without it nothing is reconciled.
    """
    jwks_url: str = "http://127.0.0.1:7003/.well-known/jwks.json"
    issuer: str = "http://127.0.0.1:7003"
    audience: str = "baraza"
    issuers: tuple[TrustedIssuer, ...] = ()
    """The issuers of tokens of staff and customers, a JSON list, each with the roles that it may ever give.

    Without it there is the one above, whose tokens may claim any role.
    """
    http_host: str = "127.0.0.1"
    http_port: int = 0
    reference_key_file: Path | None = None
    """The key that hashes personal references of sagas. Without it the tracker stores none of them."""
    approval_above: Annotated[int, Field(ge=0)] | None = None
    """Of how many sagas a plan of the tracker may be without the approval of a second person; None: of any number."""
    timeout_factor: float = 1.0
    """Stretches or shortens every deadline of a saga; tests shorten them."""
    gather_s: Annotated[float, Field(ge=0.0, le=GATHER_MAX_S)] = 0.04
    """How long after its last publishing a process that starts sagas holds committed events, at most; 0: not at all.

    The first order after a pause waits for nothing. At 225 orders a second on two cores, by ratio to no window: with
    40 ms the median latency was 0.60 and the processor time 0.88, with 70 ms 0.66 and 0.75.
    """
    log_level: str = "INFO"
    otlp_url: str = ""
    """The address of an OpenTelemetry collector (OTLP over HTTP), without the path; empty: there is none."""
    zipkin_url: str = ""
    """The address of a Zipkin, for a stack without a collector; empty: there is none."""
    trace_ratio: float = 1.0
    """The share of sagas whose traces are kept, the same ones in every process."""

    @property
    def reference_key(self) -> bytes | None:
        """The key in :attr:`reference_key_file`; None without one. Raises OSError where it cannot be read."""
        return None if self.reference_key_file is None else self.reference_key_file.read_bytes().strip() or None
