"""Members as a process on real PostgreSQL and Redis, and the requests of members and staff."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Engine, text

from chassis.saga.handlers import Handlers
from chassis.wire.envelope import new_id
from members.handlers import HANDLERS
from messages.contract import Message
from messages.ledger import ReceiptRecorded
from messages.saga import MemberOnboarded
from stack import contract, databases, ports, postgres, redis
from stack.home import Home
from support.checkouts import ISSUER, Api, token, until
from support.executed import CODEC, Executed

Json = Any


@dataclass(kw_only=True)
class MembersStack:
    """The components around members, and the processes that a test starts."""

    home: Home
    ports: dict[str, int]
    engine: Engine
    outside: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def environment(self, **changes: str) -> dict[str, str]:
        settings = {
            "SERVICE": "members",
            "KAFKA": f"127.0.0.1:{self.ports['nowhere']}",
            "KAFKA_USER": "members",
            "KAFKA_PASSWORD_FILE": str(self.home.password_file("members")),
            "REGISTRY_URL": self.outside,
            "DATABASE_URL": f"postgresql+psycopg://members@127.0.0.1:{self.ports['postgres']}/members",
            "DATABASE_PASSWORD_FILE": str(self.home.password_file("members")),
            "REDIS_URL": f"redis://127.0.0.1:{self.ports['redis']}/0",
            "REDIS_USER": "members",
            "REDIS_PASSWORD_FILE": str(self.home.password_file(redis.secret_of("members"))),
            "JWKS_URL": f"{self.outside}/jwks.json",
            "ISSUER": ISSUER,
            "PHONE_KEY_FILE": str(self.file("phone-key", "a key of phones")),
            "REQUESTS_PER_S_MEMBER": "10000",
            "REQUESTS_PER_S_TELLER": "10000",
            "REQUESTS_PER_S_FINANCE": "10000",
            "REQUESTS_PER_S_APPROVER": "10000",
        } | changes
        return dict(os.environ) | {f"BARAZA_{name}": value for name, value in settings.items()}

    def file(self, name: str, content: str) -> Path:
        """Return a file of the home, written the first time."""
        path = self.home.folder("members-files") / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_text(content)
        return path

    def start(self, **changes: str) -> Api:
        """Start a process. Where its port was taken meanwhile, it is started on another one."""
        while True:
            port = ports.choose(["members"], {}, {})["members"]
            environment = self.environment(HTTP_PORT=str(port), **changes)
            with self.home.log(f"members-{port}").open("wb") as log:
                process = subprocess.Popen([sys.executable, "-m", "members.main"], env=environment, stderr=log)
            self.processes.append(process)
            api = Api(url=f"http://127.0.0.1:{port}", process=process, log=self.home.log(f"members-{port}"))
            until(lambda: process.poll() is not None or api.answers(), f"members answers; see {api.log}")  # noqa: B023
            if process.poll() is None:
                return api
            assert "address already in use" in api.log.read_text(), api.log.read_text()

    def migrate(self) -> None:
        connect = partial(postgres.connect, self.ports["postgres"], self.home.password(postgres.SUPERUSER))
        rights = contract.database_rights()
        databases.create(connect, self.home.password, {login: rights[login] for login in ("members", "members_owner")})
        owner = {
            "DATABASE_URL": f"postgresql+psycopg://members_owner@127.0.0.1:{self.ports['postgres']}/members",
            "DATABASE_PASSWORD_FILE": str(self.home.password_file("members_owner")),
        }
        command = [sys.executable, "-m", "chassis.postgres.migrate", "members"]
        subprocess.run(command, env=self.environment(**owner), check=True)

    def events(self, saga_id: str) -> list[Any]:
        """Return the events in the outbox of a saga, in their order."""
        with self.engine.connect() as tx:
            query = text("SELECT payload FROM outbox WHERE aggregateid = :id ORDER BY seq")
            return [CODEC.decode(bytes(payload)) for payload in tx.execute(query, {"id": saga_id}).scalars()]

    def event(self, saga_id: str) -> Any:
        """Return the one event in the outbox of a saga."""
        (found,) = self.events(saga_id)
        return found

    def react(self, *events: Message) -> list[Any]:
        """Let the service handle events in one batch, and return what it publishes."""
        executed = Executed(name="members", engine=self.engine, handlers=Handlers.of(HANDLERS))
        published: list[Any] = list(executed.deliver(*events))
        assert not executed.failures, executed.failures
        return published

    def rows(self, query: str, **values: Any) -> list[Any]:
        with self.engine.connect() as tx:
            return list(tx.execute(text(query), values))

    def run_sql(self, statement: str, **values: Any) -> None:
        with self.engine.begin() as tx:
            tx.execute(text(statement), values)


@dataclass(kw_only=True)
class Office:
    """The staff of the SACCO at one running process, and its members."""

    stack: MembersStack
    api: Api
    last: int = 0

    def client(self, *roles: str, subject: str = "") -> httpx.Client:
        headers = {"Authorization": f"Bearer {token(subject or '-'.join(roles), roles)}"}
        return httpx.Client(base_url=self.api.url, headers=headers, timeout=30)

    def call(self, role: str, method: str, path: str, body: Json = None, *, subject: str = "", status: int = 0) -> Json:
        """Send a request of a person with a role, and return the answer; another status fails the test."""
        with self.client(role, subject=subject) as client:
            answer = client.request(method, path, json=body, headers={"Idempotency-Key": uuid.uuid4().hex})
        is_expected = answer.status_code == status if status else answer.is_success
        assert is_expected, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def registered(self, *, is_open: bool = True, **changes: Json) -> Json:
        """Return a new member, with open accounts unless it is said otherwise."""
        member_id = changes.pop("member_id", None) or f"M{uuid.uuid4().hex[:9].upper()}"
        body = {"member_id": member_id, "name": "Amina Wanjiru", "phone": new_phone()} | changes
        made = self.call("teller", "POST", "/v1/members", body, status=202)
        if is_open:
            self.open_accounts(member_id)
        return self.call("teller", "GET", f"/v1/members/{made['member_id']}")

    def open_accounts(self, member_id: str) -> None:
        query = "SELECT saga_id FROM members WHERE member_id = :id"
        saga_id = self.stack.rows(query, id=member_id)[0].saga_id
        onboarded = MemberOnboarded(**envelope(saga_id, "member_onboarding"), started_at=datetime.now(UTC))
        self.stack.react(onboarded)

    def post(self, path: str, body: Json, *, key: str = "", member: str = "") -> httpx.Response:
        """Send a request of a member, or without one of a teller."""
        role, subject = ("member", member) if member else ("teller", "teller-1")
        with self.client(role, subject=subject) as client:
            return client.post(path, json=body, headers={"Idempotency-Key": key or uuid.uuid4().hex})


def new_phone() -> str:
    return f"2547{uuid.uuid4().int % 10**8:08}"


def new_receipt() -> str:
    return uuid.uuid4().hex[:10].upper()


def envelope(saga_id: str, saga_type: str) -> dict[str, Any]:
    return {
        "message_id": new_id(), "saga_id": saga_id, "saga_type": saga_type, "saga_version": 1,
        "causation_id": new_id(), "occurred_at": datetime.now(UTC),
    }  # fmt: skip


def recorded(reference: str | None, *, amount_minor: int = 150_000, **changes: Any) -> ReceiptRecorded:
    """Return the event of a receipt that the ledger has recorded."""
    saga_id = changes.pop("saga_id", None) or new_id()
    fields: dict[str, Any] = {
        "provider": "daraja", "short_code": "600100", "receipt": new_receipt(), "currency": "KES",
        "amount_minor": amount_minor, "completed_at": datetime.now(UTC), "reference": reference,
        "collection_id": None, "payer_hash": None,
    } | changes  # fmt: skip
    return ReceiptRecorded(**envelope(saga_id, "receipt"), **fields)


def statuses(answers: Sequence[httpx.Response]) -> list[int]:
    return sorted(answer.status_code for answer in answers)
