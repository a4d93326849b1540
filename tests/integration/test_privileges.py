"""On the real components, every login may use what is its own, and is refused everything else.

The logins, their topics and their databases come from the contract, so a new service is tested by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from typing import Any, LiteralString

import certifi
import psycopg
import pytest
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError

from stack import Stack, contract, kafka_access
from stack.contract import DatabaseRights, KafkaRights, Use

WITHIN_S = 20.0
REFUSED_WITHIN_S = 3.0
LOGINS = contract.database_rights()
RIGHTS = contract.kafka_rights()
TOPICS = contract.topics()
GROUPS = tuple(group for rights in RIGHTS.values() for group in rights.joins)
each_login = pytest.mark.parametrize(("user", "rights"), RIGHTS.items(), ids=list(RIGHTS))


def written(stack: Stack, user: str) -> dict[str, int]:
    """Write to every topic with a login, and return Kafka's error code by topic; 0 means success."""
    codes: dict[str, int] = {}

    def on_delivery(topic: str) -> Callable[[KafkaError | None, Any], None]:
        return lambda error, _message: codes.update({topic: error.code() if error else 0})

    producer = Producer({**stack.kafka(user).options(), "acks": "all", "message.timeout.ms": int(WITHIN_S * 1000)})
    for topic in TOPICS:
        producer.produce(topic, b"tried", key=b"tried", partition=0, on_delivery=on_delivery(topic))
    assert producer.flush(WITHIN_S * 2) == 0
    return codes


def read(stack: Stack, user: str, group: str) -> dict[str, int]:
    """Read every topic with a login, from its beginning to its end, and return Kafka's error code by topic.

    The client fetches nothing from a topic that it may not describe, so that refusal comes first.
    """
    login = stack.kafka(user)
    codes: dict[str, int] = {}
    options = {**login.options(), "group.id": group, "enable.partition.eof": True, "enable.auto.commit": False}
    with closing(Consumer(options)) as consumer:
        for topic in TOPICS:
            refusal = consumer.list_topics(topic, timeout=WITHIN_S).topics[topic].error
            codes.update({topic: refusal.code()} if refusal else {})
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING) for topic in TOPICS if topic not in codes])
        while len(codes) < len(TOPICS):
            message = consumer.poll(WITHIN_S)
            assert message is not None, f"nothing for {WITHIN_S} s about {set(TOPICS) - codes.keys()}"
            if (error := message.error()) is not None and (about := message.topic()) is not None:
                codes.setdefault(about, 0 if error.code() == KafkaError._PARTITION_EOF else error.code())
    return codes


def joined(stack: Stack, user: str, topic: str) -> dict[str, int]:
    """Move the offset of every group with a login, on a topic that it may read, as a member does."""
    admin = AdminClient(stack.kafka(user).options())
    requests = {}
    for group in GROUPS:
        request = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 0)])
        (requests[group],) = admin.alter_consumer_group_offsets([request]).values()
    return {group: code_of(partial(_finish, answer)) for group, answer in requests.items()}


def _finish(request: Future[Any]) -> None:
    for partition in request.result(WITHIN_S).topic_partitions:
        if partition.error is not None:
            raise KafkaException(partition.error)


def code_of(attempt: Callable[[], Any]) -> int:
    """Return the code of the refusal, 0 where there was none."""
    try:
        attempt()
    except KafkaException as error:
        code: int = error.args[0].code()
        return code
    return 0


def judged(allowed: tuple[str, ...], every: tuple[str, ...], refusal: int) -> dict[str, int]:
    return {name: 0 if name in allowed else refusal for name in every}


@each_login
def test_a_login_writes_its_own_topics_and_no_other(infrastructure: Stack, user: str, rights: KafkaRights) -> None:
    assert written(infrastructure, user) == judged(rights.writes, TOPICS, KafkaError.TOPIC_AUTHORIZATION_FAILED)


@each_login
def test_a_login_reads_its_own_topics_and_no_other(infrastructure: Stack, user: str, rights: KafkaRights) -> None:
    group = rights.joins[0] if rights.joins else user
    found = read(infrastructure, user, group)
    assert found == judged(rights.reads, TOPICS, KafkaError.TOPIC_AUTHORIZATION_FAILED)


@each_login
def test_a_login_joins_its_own_group_and_no_other(infrastructure: Stack, user: str, rights: KafkaRights) -> None:
    topic = (rights.reads or rights.writes)[0]
    assert joined(infrastructure, user, topic) == judged(rights.joins, GROUPS, KafkaError.GROUP_AUTHORIZATION_FAILED)


@each_login
def test_a_login_administers_nothing(infrastructure: Stack, user: str, rights: KafkaRights) -> None:
    admin = AdminClient(infrastructure.kafka(user).options())
    (made,) = admin.create_topics([NewTopic(f"{user}-of-its-own", 1, 1)]).values()
    (deleted,) = admin.delete_topics(["payment.events"]).values()
    own = contract.KafkaRights(writes=("payment.events",))
    (allowed,) = admin.create_acls(list(kafka_access.bindings(user, own))).values()
    assert code_of(lambda: made.result(WITHIN_S)) == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert code_of(lambda: deleted.result(WITHIN_S)) == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert code_of(lambda: allowed.result(WITHIN_S)) == KafkaError.CLUSTER_AUTHORIZATION_FAILED


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"sasl.username": "inventory"}, id="with another's password"),
        pytest.param({"sasl.username": "nobody"}, id="without a login"),
        pytest.param({"security.protocol": "SASL_PLAINTEXT"}, id="unencrypted"),
        pytest.param({"ssl.ca.location": certifi.where()}, id="trusting others"),
    ],
)
def test_an_invalid_login_is_refused(infrastructure: Stack, change: dict[str, str]) -> None:
    client = AdminClient({**infrastructure.kafka("payment").options(), **change, "log_level": 0})
    with pytest.raises(KafkaException):
        client.list_topics(timeout=REFUSED_WITHIN_S)


def connected(stack: Stack, login: str, database: str) -> psycopg.Connection:
    """Connect with a login, as its processes do."""
    server = f"{stack.endpoints.postgres_host}:{stack.endpoints.postgres_port}"
    return psycopg.connect(f"postgresql://{login}@{server}/{database}", password=stack.password(login), autocommit=True)


@pytest.fixture(scope="module")
def tables(infrastructure: Stack) -> Iterator[None]:
    """A table in every database, created by its owner as a migration does."""
    owners = {right.databases[0]: login for login, right in LOGINS.items() if right.use == Use.OWN}
    for database, owner in owners.items():
        with connected(infrastructure, owner, database) as connection:
            connection.execute("CREATE TABLE tried (number int GENERATED ALWAYS AS IDENTITY, word text)")
    yield
    for database, owner in owners.items():
        with connected(infrastructure, owner, database) as connection:
            connection.execute("DROP TABLE tried")


def allows(connection: psycopg.Connection, statement: LiteralString) -> bool:
    try:
        connection.execute(statement)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction):
        return False
    return True


READING = ("SELECT * FROM tried",)
CHANGING = ("INSERT INTO tried (word) VALUES ('a')", "UPDATE tried SET word = 'b'", "DELETE FROM tried")
OWNING = (
    "CREATE TABLE more (); DROP TABLE more",
    "CREATE SCHEMA more; DROP SCHEMA more",
    "ALTER TABLE tried ADD COLUMN more int; ALTER TABLE tried DROP COLUMN more",
    "TRUNCATE tried",
)
FORBIDDEN = ("CREATE ROLE more", "ALTER ROLE audit SUPERUSER", "CREATE DATABASE more", "COPY tried TO '/tmp/more'")
MAY = {Use.READ: READING, Use.CHANGE: READING + CHANGING, Use.OWN: READING + CHANGING + OWNING}


@pytest.mark.parametrize(("login", "right"), LOGINS.items(), ids=list(LOGINS))
@pytest.mark.usefixtures("tables")
def test_a_login_connects_to_its_own_databases_with_its_rights_only(
    infrastructure: Stack, login: str, right: DatabaseRights
) -> None:
    for database in (*contract.databases(), contract.REGISTRY, "postgres", "template1"):
        if database not in right.databases:
            with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
                connected(infrastructure, login, database)
            continue
        with connected(infrastructure, login, database) as connection:
            connection.execute(
                "SET default_transaction_read_only = off"
            )  # the login may change it, so it protects nothing
            tried = READING + CHANGING + OWNING + FORBIDDEN
            assert {each for each in tried if allows(connection, each)} == set(MAY[right.use])


@pytest.mark.usefixtures("tables")
def test_a_database_has_no_further_grants_behind_the_servers_own_check(infrastructure: Stack) -> None:
    with connected(infrastructure, contract.AUDIT, "payment") as connection:
        allowed = connection.execute(
            "SELECT r.rolname, d.datname FROM pg_roles r, pg_database d"
            " WHERE r.rolcanlogin AND NOT r.rolsuper AND d.datallowconn"
            " AND has_database_privilege(r.oid, d.oid, 'CONNECT')"
        ).fetchall()
        owned = connection.execute("SELECT tableowner FROM pg_tables WHERE schemaname = 'public'").fetchall()
    ours = {(login, database) for login, right in LOGINS.items() for database in right.databases}
    assert {(login, database) for login, database in allowed if login in LOGINS} == ours
    assert {LOGINS[owner].use for (owner,) in owned} == {Use.OWN}


@pytest.mark.parametrize("login", contract.redis_keys())
def test_a_service_uses_its_own_keys_in_redis_and_no_other(infrastructure: Stack, login: str) -> None:
    url = infrastructure.endpoints.redis_url
    with pytest.raises(AuthenticationError), Redis.from_url(url) as stranger:
        stranger.get("anything")
    with Redis.from_url(url, credential_provider=infrastructure.redis(login)) as client:
        for other in contract.redis_keys():
            if other == login:
                assert client.set(f"{other}:tried", "a", ex=1)
                continue
            with pytest.raises(NoPermissionError):
                client.set(f"{other}:tried", "a")
            with pytest.raises(NoPermissionError):
                client.get(f"{other}:tried")
        with pytest.raises(NoPermissionError):
            client.flushall()


def test_everyone_may_read_schemas_and_only_the_deploy_step_may_register_them(infrastructure: Stack) -> None:
    subject = contract.subjects()[0]
    changed = Schema('{"type": "record", "name": "Tried", "fields": []}', "AVRO")
    with SchemaRegistryClient({"url": infrastructure.endpoints.registry_url}) as reader:
        registered = reader.lookup_schema(subject.name, Schema(subject.message_type.SCHEMA, "AVRO"))
        assert reader.get_schema(registered.schema_id or 0).schema_str
        tried: tuple[Callable[[], object], ...] = (
            lambda: reader.register_schema("tried", changed),
            lambda: reader.set_compatibility(subject.name, "NONE"),
            lambda: reader.delete_subject(subject.name),
        )
        for forbidden in tried:
            with pytest.raises(SchemaRegistryError) as refused:
                forbidden()
            assert refused.value.http_status_code == 401
    with SchemaRegistryClient(infrastructure.registry_writer()) as writer:
        assert writer.register_schema("tried", changed)
        writer.delete_subject("tried")
