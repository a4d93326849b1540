"""The Apicurio schema registry, stored in our PostgreSQL: ids survive a restart, so kept messages stay readable."""

from __future__ import annotations

from pathlib import Path

from stack import java
from stack.home import Home
from stack.parts import Part, answers
from stack.ports import LOOPBACK

NAME = "registry"
MANAGEMENT = "registry-management"
DATABASE = "registry"
HEAP_MAX = "192m"
API = "/apis/ccompat/v7"


def part(home: Home, folder: Path, *, port: int, management_port: int, postgres_port: int) -> Part:
    """Return the registry from its unpacked ``folder``. Its own management port would else be open to the network."""
    properties = {
        "quarkus.http.host": LOOPBACK,
        "quarkus.http.port": str(port),
        "quarkus.management.host": LOOPBACK,
        "quarkus.management.port": str(management_port),
        "quarkus.banner.enabled": "false",
        "quarkus.log.console.level": "WARN",
    }
    options = (f"-D{name}={value}" for name, value in properties.items())
    return Part(
        name=NAME,
        service=NAME,
        command=(*java.command(home, HEAP_MAX), *options, "-jar", str(folder / "quarkus-run.jar")),
        environment=storage(f"{LOOPBACK}:{postgres_port}", home.password(DATABASE)),
        is_ready=lambda: answers(f"{url(port)}/subjects"),
        address=url(port),
    )


def storage(postgres: str, password: str) -> dict[str, str]:
    """Return the variables that put its storage into PostgreSQL."""
    return {
        "APICURIO_STORAGE_KIND": "sql",
        "APICURIO_STORAGE_SQL_KIND": "postgresql",
        "APICURIO_DATASOURCE_URL": f"jdbc:postgresql://{postgres}/{DATABASE}",
        "APICURIO_DATASOURCE_USERNAME": DATABASE,
        "APICURIO_DATASOURCE_PASSWORD": password,
    }


def url(port: int) -> str:
    """Return the address that Confluent's clients take."""
    return f"http://{LOOPBACK}:{port}{API}"
