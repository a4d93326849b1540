"""A new password for a login while everything runs. Connections that there are stay; the next ones bring the new one.

1. The server takes the new password.
2. The file is replaced in one move. Processes read it when they connect.

Who connects between the two is refused once and comes again, which every process of ours does by itself.
"""

from __future__ import annotations

from stack import access, contract, databases, kafka, postgres, redis
from stack.errors import InvalidSettings
from stack.home import Home, State, new_password


def rotate(home: Home, state: State, login: str) -> None:
    """Rotate a login wherever it has a password; raises InvalidSettings where there is no such login.

    A service is named as its process is (``saga-tracker``), a login of PostgreSQL alone as PostgreSQL does.
    """
    known = False
    with home.locked():
        if login in contract.kafka_rights():
            known = True
            password = new_password()
            admin = kafka.admin(kafka.login(home, state.ports[kafka.NAME], tls=state.tls))
            access.admit(admin, {login: password})
            home.keep(kafka.secret_of(login), password)
        if (role := contract.package_of(login)) in contract.database_rights() and role != contract.REGISTRY:
            known = True
            password = new_password()
            with postgres.connect(state.ports[postgres.NAME], home.password(postgres.SUPERUSER)) as server:
                databases.set_password(server, role, password)
            home.keep(role, password)
        if login in contract.redis_keys():
            known = True
            home.keep(redis.secret_of(login), new_password())
            redis.configure(home)
            redis.renew(home, state.ports[redis.NAME])
    if not known:
        logins = sorted({*contract.kafka_rights(), *contract.database_rights()} - {contract.REGISTRY})
        raise InvalidSettings(f"No login {login!r} can be rotated; known: {', '.join(logins)}.")
