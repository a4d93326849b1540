"""A new password for a login while everything runs. Open connections stay; later ones use the new password.

1. The server gets the new password.
2. The file is replaced in one move. Processes read it when they connect.

A connection between the two steps is refused once; each of our processes tries again by itself. The courier's webhooks
and those of the accounts at gateways are signed with a secret that both sides read from one file: the one before is
accepted until the next rotation. So is the secret segment of the paths that providers of mobile money call.
"""

from __future__ import annotations

from stack import contract, databases, gateways, kafka, kafka_access, postgres, redis, services, short_codes
from stack.errors import InvalidSettings
from stack.home import Home, State, new_password


def rotate(home: Home, state: State, login: str) -> None:
    """Rotate a login in every system where it has a password. Raises InvalidSettings for an unknown login.

    A service has the name of its process (``saga-tracker``), a login of PostgreSQL only the name that it has there.
    """
    known = False
    webhooks = {services.WEBHOOK_SECRETS: new_password}
    webhooks |= {account.webhook_secrets: account.new_webhook_secret for account in gateways.ACCOUNTS}
    webhooks |= {each.secret(short_codes.CALLBACK): new_password for each in short_codes.SHORT_CODES}
    with home.locked():
        if login in contract.kafka_rights():
            known = True
            password = new_password()
            admin = kafka.admin(kafka.login(home, state.ports[kafka.NAME], tls=state.tls))
            kafka_access.upsert_users(admin, {login: password})
            home.store(kafka.secret_of(login), password)
        if (role := contract.package_of(login)) in contract.database_rights() and role != contract.REGISTRY:
            known = True
            password = new_password()
            with postgres.connect(state.ports[postgres.NAME], home.password(postgres.SUPERUSER)) as server:
                databases.set_password(server, role, password)
            home.store(role, password)
        if login in contract.redis_keys():
            known = True
            home.store(redis.secret_of(login), new_password())
            redis.configure(home)
            redis.renew(home, state.ports[redis.NAME])
        if new := webhooks.get(login):
            known = True
            before = home.password(login, new).split()[0]
            home.store(login, f"{new()}\n{before}")
    if not known:
        logins = sorted({*contract.kafka_rights(), *contract.database_rights(), *webhooks} - {contract.REGISTRY})
        raise InvalidSettings(f"No login {login!r} can be rotated; known: {', '.join(logins)}.")
