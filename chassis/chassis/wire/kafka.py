"""Logs a process in to Kafka, and reads what a message has besides its key and its value.

The login is the process's name with the password in its file, never from an argument.

A password can be rotated while the process runs. Kafka keeps existing connections, and when a login is refused, the
file is read again for the next one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import methodcaller
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import AdminClient

from chassis.settings import Settings
from chassis.wire.envelope import TIME_MAX, TIME_MIN, Headers

TIMEOUT_S = 3.0
MECHANISM = "SCRAM-SHA-512"
"""Challenge and response: the password itself does not travel, even where there is no TLS."""
PLAIN_PROTOCOL, TLS_PROTOCOL = "SASL_PLAINTEXT", "SASL_SSL"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaLogin:
    """Kafka's address, and the login of a process.

    Without ``password_file`` there is no login, as a Kafka may allow that only its own network reaches. Without
    ``ca_file`` the connection is not encrypted.
    """

    address: str
    user: str
    password_file: Path | None
    ca_file: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> KafkaLogin:
        """Return the login in a process's settings."""
        return cls(
            address=settings.kafka,
            user=settings.kafka_user,
            password_file=settings.kafka_password_file,
            ca_file=settings.kafka_ca_file,
        )

    @property
    def protocol(self) -> str:
        """The security protocol, in Kafka's spelling."""
        return PLAIN_PROTOCOL if self.ca_file is None else TLS_PROTOCOL

    def password(self) -> str:
        """Return the present content of the password file."""
        return "" if self.password_file is None else self.password_file.read_text().strip()

    def options(self) -> dict[str, Any]:
        """Return librdkafka's options, for a client that does not outlive a rotation; for others see :func:`client`."""
        if self.password_file is None:
            return {"bootstrap.servers": self.address}
        options = {
            "bootstrap.servers": self.address,
            "security.protocol": self.protocol,
            "sasl.mechanism": MECHANISM,
            "sasl.username": self.user,
            "sasl.password": self.password(),
        }
        return options if self.ca_file is None else {**options, "ssl.ca.location": str(self.ca_file)}


class Rotating(Protocol):
    """What consumers, producers and administrators of confluent-kafka have in common."""

    def set_sasl_credentials(self, username: str, password: str) -> None:
        """Replace the credentials for every login from now on."""
        ...


Client = TypeVar("Client", bound=Rotating)


def client(kind: Callable[[dict[str, Any]], Client], login: KafkaLogin, options: Mapping[str, Any]) -> Client:
    """Return a client that reads its password again whenever a login is refused.

    It does so on another thread, because the binding aborts when the callback itself calls the client.
    """
    made: list[Client] = []

    def renew() -> None:
        made[0].set_sasl_credentials(login.user, login.password())

    def on_error(error: KafkaError) -> None:
        if error.code() == KafkaError._AUTHENTICATION and made:
            log.warning("Kafka refused the login; the password is read again.", user=login.user)
            threading.Thread(target=renew, name="login", daemon=True).start()

    made.append(kind({**login.options(), **options, "error_cb": on_error}))
    return made[0]


class UnreadableHeaders(Exception):
    """The client for Python cannot read a message's headers. Read its key and its value without them."""


HEADERS_READ_MAX = 100_000
"""librdkafka hands over no headers of a message that has more than these, and no error: it reads as one without
headers. So what is published again, a dead letter for example, must have fewer."""

_read_headers: Callable[[KafkaMessage], Any] = methodcaller("headers")
"""For a name that is not UTF-8 the binding returns a list with a NULL pointer in it, and an error. Only a call that
Python checks raises that error. ``message.headers()`` is not checked once the interpreter has specialized it, and the
process ends in a segmentation fault."""


def headers_of(message: KafkaMessage) -> Headers:
    """Return a message's headers; one without a value has an empty one. Raises UnreadableHeaders.

    Call it once for a message: after a failure the binding returns that list without an error.
    """
    try:
        pairs = _read_headers(message)
    except (SystemError, UnicodeDecodeError) as error:  # a SystemError, with the UnicodeDecodeError as its cause
        raise UnreadableHeaders("The name of a header is not UTF-8; publish without that header.") from error
    return tuple([(name, content or b"") for name, content in pairs]) if pairs else ()


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_MS, END_MS = ((at - EPOCH) // timedelta(milliseconds=1) for at in (TIME_MIN, TIME_MAX))


def time_of(timestamp_ms: int) -> datetime | None:
    """Return Kafka's timestamp of a message as a time, None for one that is out of the range of our messages.

    The producer chooses it, and Kafka accepts any number, also negative ones.
    """
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC) if FIRST_MS <= timestamp_ms < END_MS else None


def answers(login: KafkaLogin) -> bool:
    """Return whether Kafka answers a new client; an existing client may be what hangs."""
    try:
        AdminClient({**login.options(), "log_level": 0}).list_topics(timeout=TIMEOUT_S)
    except KafkaException:
        return False
    return True
