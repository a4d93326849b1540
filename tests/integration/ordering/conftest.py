"""Checkout as a process, and what it needs: started once for each module."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import httpx
import pytest
from sqlalchemy import Connection, create_engine

from chassis.postgres.database import prepare
from stack import ports, postgres, redis
from stack.home import Home
from support.checkouts import PRODUCTS, Api, CheckoutStack, Outside, launched, migrate, until


@pytest.fixture(scope="module")
def checkout_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckoutStack]:
    home = Home(tmp_path_factory.mktemp("checkout"))
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
    engine = prepare(create_engine(f"postgresql+psycopg://{login}@127.0.0.1:{chosen['postgres']}/checkout"))
    made = CheckoutStack(
        home=home, ports=chosen, engine=engine, outside=f"http://127.0.0.1:{outside.server_port}", redis=running[1]
    )
    try:
        for component in running:
            until(component.is_ready, f"{component.name} answers")
        migrate(made)
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


@pytest.fixture(scope="module")
def api(checkout_stack: CheckoutStack) -> Api:
    running = checkout_stack.start()
    with running.client("operator-1", ["operator"]) as operator:
        loaded = operator.put("/v1/catalogue", json={"products": PRODUCTS})
        assert loaded.json() == {"received": len(PRODUCTS), "changed": len(PRODUCTS)}
    return running


@pytest.fixture
def storefront(api: Api) -> Iterator[httpx.Client]:
    with api.client() as client:
        yield client


@pytest.fixture
def tx(checkout_stack: CheckoutStack, api: Api) -> Iterator[Connection]:
    with checkout_stack.engine.connect() as connection:
        yield connection
