"""PostgreSQL alone, and the notifier's database in it; each test has merchants of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from chassis.postgres import migrations
from chassis.postgres.database import prepare
from stack import ports, postgres
from stack.home import Home
from support.checkouts import launched, until
from support.notifiers import NotifierUnderTest

EMPTY = text("""
    TRUNCATE endpoints, endpoint_secrets, events, deliveries, attempts, saga_outcomes, outbox,
        member_contacts, texts, waiting_texts
""")


@pytest.fixture(scope="package")
def notifier_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    home = Home(tmp_path_factory.mktemp("notifier"))
    home.prepare()
    chosen = ports.choose(["postgres"], {}, {})
    postgres.create(home)
    component = postgres.component(home, chosen["postgres"])
    server = launched(component)
    login = f"{postgres.SUPERUSER}:{home.password(postgres.SUPERUSER)}"
    address = f"postgresql+psycopg://{login}@127.0.0.1:{chosen['postgres']}"
    admin = create_engine(f"{address}/postgres", isolation_level="AUTOCOMMIT")
    engine = prepare(create_engine(f"{address}/notifier"))
    try:
        until(component.is_ready, "PostgreSQL answers")
        with admin.connect() as connection:
            connection.execute(text("CREATE DATABASE notifier"))
        migrations.upgrade("notifier", engine)
        yield engine
    finally:
        engine.dispose()
        admin.dispose()
        server.send_signal(component.stop_signal)
        server.wait(30)


@pytest.fixture
def notifier(notifier_engine: Engine, tmp_path: Path) -> Iterator[NotifierUnderTest]:
    """The notifier on an empty database; its deliverers end with the test."""
    with notifier_engine.begin() as tx:
        tx.execute(EMPTY)
    key_file = tmp_path / "webhook-keys"
    key_file.write_text("a key of these tests\n")
    under_test = NotifierUnderTest(engine=notifier_engine, key_file=key_file)
    yield under_test
    for deliverer in under_test.deliverers:
        deliverer.stop()
