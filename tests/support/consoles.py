"""The console with its Redis and the development issuer as processes, and a browser's cookies without a browser."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from html import unescape
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from redis import Redis

from console.main import application
from console.settings import ConsoleSettings
from simulators.issuer import IssuerSettings, build
from simulators.keys import signed
from stack import contract, ports, postgres, providers, redis, services
from stack.components import Component
from stack.home import Home, State
from support.waiting import until

READY_WITHIN_S = 180.0
SESSION, SIGNING_IN = "__Host-session", "__Host-signing-in"
TOKEN = re.compile(r'name="form_token" value="([^"]+)"')
CHOICE = re.compile(r'name="request" value="([^"]+)"')


@dataclass(slots=True)
class Clock:
    """The console's clock: the real one, and as much later as a test wants."""

    later_s: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.later_s


class Served:
    """An application on a thread of the tests, on one port. It can be stopped, and started again."""

    def __init__(self, build_app: Callable[[], Any], port: int) -> None:
        self._build = build_app
        self._port = port
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Serve, and return when requests are answered."""
        config = uvicorn.Config(
            self._build(), host=ports.LOOPBACK, port=self._port, log_config=None, timeout_graceful_shutdown=2
        )
        server = uvicorn.Server(config)
        self._thread = threading.Thread(target=server.run, daemon=True)
        self._thread.start()
        until(lambda: server.started, f"port {self._port} is served", within_s=READY_WITHIN_S)
        self._server = server

    def stop(self) -> None:
        """Stop serving; a second time nothing happens."""
        server, thread, self._server, self._thread = self._server, self._thread, None, None
        if server is not None and thread is not None:
            server.should_exit = True
            thread.join(30)


@dataclass(frozen=True, kw_only=True)
class ConsoleAddress:
    """A console that is up, and the issuer at which its people sign in."""

    url: str
    issuer: str
    http: httpx.Client

    def browser(self) -> Browser:
        """Return a browser without cookies."""
        return Browser(console=self)

    def signed_in(self, sub: str) -> Browser:
        """Return a browser in which a person is signed in."""
        browser = self.browser()
        browser.sign_in(sub)
        return browser

    def change(self, sub: str, **changes: Any) -> None:
        """Change a person at the issuer."""
        self.http.post(f"{self.issuer}/people/{sub}", json=changes).raise_for_status()


@dataclass(frozen=True, kw_only=True)
class RunningConsole(ConsoleAddress):
    """A console on threads of the tests. ``redis`` may do everything there; it and ``provider`` can be stopped."""

    redis: Redis
    clock: Clock
    provider: Served
    server: Served
    settings: ConsoleSettings
    keys: Path

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return a token with these claims and the issuer's signature."""
        return signed(self.keys, claims)


@dataclass(slots=True, kw_only=True)
class Browser:
    """What of a browser a sign-in needs: cookies by host, and no redirect that is followed unseen.

    Its cookies with Secure go over HTTP to loopback as well, as in Chromium.
    """

    console: ConsoleAddress
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, **headers: str) -> httpx.Response:
        """Request a page of the console."""
        return self._keep(self.console.http.get(self._at(path), headers={**self._headers(), **headers}))

    def post(self, path: str, form: Mapping[str, str], **headers: str) -> httpx.Response:
        """Send a form to the console, as a page of its own does."""
        own = {"origin": self.console.url, "sec-fetch-site": "same-origin"}
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._keep(self.console.http.post(self._at(path), data=form, headers={**self._headers(), **own, **sent}))

    def act(self, path: str, **form: str) -> httpx.Response:
        """Send a form of ours, with its token."""
        return self.post(path, {"form_token": self.token(), **form})

    def token(self) -> str:
        """Return the form token of the session, which is on every page."""
        found = TOKEN.search(self.get("/help").text)
        assert found is not None
        return unescape(found[1])

    def answer_of(self, sub: str, path: str = "/") -> str:
        """Begin a sign-in, choose a person at the issuer, and return the address to which it leads back."""
        begun = self.get(f"/sign-in?next={urllib.parse.quote(path)}")
        assert begun.status_code == 303, begun.text
        page = self.console.http.get(begun.headers["location"])
        choice = CHOICE.search(page.text)
        assert choice is not None, page.text
        chosen = self.console.http.post(f"{self.console.issuer}/authorize", data={"request": choice[1], "sub": sub})
        assert chosen.status_code == 303, chosen.text
        return str(chosen.headers["location"])

    def sign_in(self, sub: str, path: str = "/") -> httpx.Response:
        """Sign a person in, and return the answer to the issuer's redirect."""
        return self.get(self.answer_of(sub, path))

    def _at(self, path: str) -> str:
        return path if path.startswith("http") else f"{self.console.url}{path}"

    def _headers(self) -> dict[str, str]:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {"accept": "text/html", **({"cookie": cookie} if cookie else {})}

    def _keep(self, response: httpx.Response) -> httpx.Response:
        for line in response.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(line).items():
                if morsel.value and morsel["max-age"] != "0":
                    self.cookies[name] = morsel.value
                else:
                    self.cookies.pop(name, None)
        return response


@contextmanager
def running(folder: Path, apis: Mapping[str, str] | None = None, **added: Any) -> Iterator[RunningConsole]:
    """Start Redis, the issuer and the console with the stack's own settings and those that are added.

    ``apis`` are in the place of its APIs. No PostgreSQL is there: the console's database is away all the time.
    """
    home = Home(folder)
    home.prepare()
    home.folder(redis.NAME).mkdir(parents=True)
    services.simulator_folder(home).mkdir(parents=True)
    names = (redis.NAME, postgres.NAME, providers.ISSUER, contract.CONSOLE)
    state = State(ports=ports.choose(names, {}, {}), components=[contract.CONSOLE])
    home.password(contract.package_of(contract.CONSOLE))
    redis.configure(home)
    with ExitStack() as open_:
        log = open_.enter_context((folder / "redis.log").open("w"))
        open_.enter_context(_process(redis.component(home, state.ports[redis.NAME]), log))
        of_issuer = IssuerSettings(**_settings(home, state, providers.ISSUER))
        clock = Clock()
        of_console = ConsoleSettings(
            **{
                **_settings(home, state, contract.CONSOLE),
                "console_apis": " ".join(f"{name}={url}" for name, url in (apis or {}).items()),
                **added,
            }
        )
        issuer = Served(lambda: build(of_issuer), of_issuer.http_port)
        console = Served(lambda: application(of_console, clock), of_console.http_port)
        for server in (issuer, console):
            server.start()
            open_.callback(server.stop)
        client = Redis(
            port=state.ports[redis.NAME], username=contract.DEPLOY, password=redis.password(home, contract.DEPLOY)
        )
        http = open_.enter_context(httpx.Client(trust_env=False, timeout=30))
        open_.callback(client.close)
        yield RunningConsole(
            url=of_console.console_url,
            issuer=of_console.issuer,
            redis=client,
            http=http,
            clock=clock,
            provider=issuer,
            server=console,
            settings=of_console,
            keys=of_issuer.issuer_keys,
        )


def _settings(home: Home, state: State, name: str) -> dict[str, Any]:
    variables = services.environment(home, state, name, name)
    return {key.removeprefix("BARAZA_").lower(): value for key, value in variables.items()}


@contextmanager
def _process(component: Component, log: Any) -> Iterator[None]:
    process = subprocess.Popen(
        component.command, env={**os.environ, **component.environment}, stdout=log, stderr=subprocess.STDOUT
    )
    try:
        until(component.is_ready, f"{component.name} is ready", within_s=READY_WITHIN_S)
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(15)
