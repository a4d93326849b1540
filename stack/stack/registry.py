"""The Apicurio schema registry, stored in our PostgreSQL: ids survive a restart, so old messages stay readable."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from stack import contract, java
from stack.components import Component, responds
from stack.errors import translated_os_errors
from stack.home import Home, replace
from stack.ports import LOOPBACK

NAME = "registry"
MANAGEMENT = "registry-management"
DATABASE = LOGIN = contract.REGISTRY
SIGNING = "registry.pem"
"""The key that signs the deploy step's tokens. It stays in the home; the registry gets only its public half."""
TOKEN_TTL_S = 300
WRITES = "sr-developer"
"""The registry's own role for the registration of schemas and the choice of their compatibility."""
HEAP_MAX = "192m"
API = "/apis/ccompat/v7"


def component(home: Home, folder: Path, *, port: int, management_port: int, postgres_port: int) -> Component:
    """Return the registry from its unpacked ``folder``. Its management port would otherwise be open to the network."""
    properties = {
        "quarkus.http.host": LOOPBACK,
        "quarkus.http.port": str(port),
        "quarkus.management.host": LOOPBACK,
        "quarkus.management.port": str(management_port),
        "quarkus.banner.enabled": "false",
        "quarkus.log.console.level": "WARN",
    }
    options = (f"-D{name}={value}" for name, value in properties.items())
    return Component(
        name=NAME,
        service=NAME,
        command=(*java.command(home, HEAP_MAX), *options, "-jar", str(folder / "quarkus-run.jar")),
        environment={**storage(f"{LOOPBACK}:{postgres_port}", home), **access(home)},
        is_ready=lambda: responds(f"{url(port)}/subjects"),
        address=url(port),
    )


def access(home: Home) -> dict[str, str]:
    """Return the variables that allow everyone to read, and only holders of a token of :func:`writer` to write.

    The registry verifies tokens with the key from these variables, so it needs no identity server.
    """
    public = _key(home).public_key()
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return {
        "QUARKUS_OIDC_TENANT_ENABLED": "true",
        "QUARKUS_OIDC_APPLICATION_TYPE": "service",
        "QUARKUS_OIDC_PUBLIC_KEY": base64.b64encode(der).decode(),
        "QUARKUS_OIDC_ROLES_ROLE_CLAIM_PATH": "roles",
        "APICURIO_AUTH_ROLE_BASED_AUTHORIZATION": "true",
        "APICURIO_AUTH_ANONYMOUS_READ_ACCESS_ENABLED": "true",
    }


def writer(home: Home, port: int) -> dict[str, str]:
    """Return the options of the deploy step's client, which may register schemas for the next few minutes."""
    now = int(time.time())
    claims = {"sub": contract.DEPLOY, "iat": now, "exp": now + TOKEN_TTL_S, "roles": [WRITES]}
    return {
        "url": url(port),
        "bearer.auth.credentials.source": "STATIC_TOKEN",
        "bearer.auth.token": jwt.encode(claims, _key(home), "RS256"),
        "bearer.auth.logical.cluster": "none",
    }


def _key(home: Home) -> rsa.RSAPrivateKey:
    file = home.password_file(SIGNING)
    with translated_os_errors(file), home.secrets_lock:
        if not file.exists():
            made = rsa.generate_private_key(public_exponent=65_537, key_size=2048).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            replace(file, made.decode())
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def storage(postgres: str, home: Home) -> dict[str, str]:
    """Return the variables that put its storage into PostgreSQL."""
    return {
        "APICURIO_STORAGE_KIND": "sql",
        "APICURIO_STORAGE_SQL_KIND": "postgresql",
        "APICURIO_DATASOURCE_URL": f"jdbc:postgresql://{postgres}/{DATABASE}",
        "APICURIO_DATASOURCE_USERNAME": LOGIN,
        "APICURIO_DATASOURCE_PASSWORD": home.password(LOGIN),
    }


def url(port: int) -> str:
    """Return the address for Confluent's clients."""
    return f"http://{LOOPBACK}:{port}{API}"
