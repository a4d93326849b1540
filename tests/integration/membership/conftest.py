"""Members as a process, and what it needs: started once for all modules."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest
from sqlalchemy import create_engine

from chassis.postgres.database import prepare
from stack import ports, postgres, redis
from stack.home import Home
from support.checkouts import Api, Outside, launched, until
from support.members import MembersStack, Office


@pytest.fixture(scope="package")
def members_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MembersStack]:
    home = Home(tmp_path_factory.mktemp("members"))
    home.prepare()
    chosen = ports.choose(["postgres", "redis", "nowhere"], {}, {})
    home.folder("redis").mkdir()
    redis.configure(home)
    postgres.create(home)
    running = [postgres.component(home, chosen["postgres"]), redis.component(home, chosen["redis"])]
    started = [launched(component) for component in running]
    outside = ThreadingHTTPServer(("127.0.0.1", 0), Outside)
    thread = threading.Thread(target=outside.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    login = f"{postgres.SUPERUSER}:{home.password(postgres.SUPERUSER)}"
    engine = prepare(create_engine(f"postgresql+psycopg://{login}@127.0.0.1:{chosen['postgres']}/members"))
    made = MembersStack(home=home, ports=chosen, engine=engine, outside=f"http://127.0.0.1:{outside.server_port}")
    try:
        for component in running:
            until(component.is_ready, f"{component.name} answers")
        made.migrate()
        yield made
    finally:
        engine.dispose()
        for process in made.processes:
            process.terminate()
        for process in made.processes:
            process.wait(15)
        for component, server in zip(running, started, strict=True):
            server.send_signal(component.stop_signal)
        for server in started:
            server.wait(30)
        outside.shutdown()
        outside.server_close()
        thread.join()


@pytest.fixture(scope="package")
def api(members_stack: MembersStack) -> Api:
    return members_stack.start()


@pytest.fixture(scope="package")
def office(members_stack: MembersStack, api: Api) -> Office:
    return Office(stack=members_stack, api=api)
