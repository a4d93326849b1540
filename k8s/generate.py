"""``python k8s/generate.py``: writes what is alike for every service into ``base/generated``, from the code's names.

One file a service holds all that it has: deployment, scaling, database, Kafka login, secrets, policy. What is not alike
(Kafka, Redis, the registry, the overlays) is written by hand beside it. A test holds the files against this program.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from stack.contract import AUDIT, owner_of

from stack import contract, redis, services

BASE = Path(__file__).with_name("base")
PARTITIONS = 12
"""The same for every topic, for ever; a group has no more working members than this."""
VERSION = "0.1.0"
UID = 10001
HTTP, KAFKA, POSTGRES, REDIS, REGISTRY, OTLP, HTTPS = 8080, 9093, 5432, 6379, 8080, 4318, 443
LAG_PER_REPLICA = 200
"""Messages; a replica handles some hundreds a second, so this is about a second behind."""
PREPARE, SERVE = "1", "2"
"""Argo CD's waves: Jobs before the roll-out. With kubectl it is the label baraza.example/wave, see operations.md."""
CPU_SHARE = "100m"
EVENTS_KEPT_MS = 90 * 24 * 3600 * 1000
"""Longer than any backup is kept, so that a restored database can always catch up from Kafka."""

REDIS_LOGINS = "redis-logins"

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What a process has that not every process has: this is the whole table."""

    module: str
    cpu: str = "500m"
    cpu_share: str = CPU_SHARE
    """What it is sure of, and by how much it goes before others where a node's processors are full."""
    memory: str = "384Mi"
    redis: bool = False
    outside: bool = False
    is_public: bool = False
    scales_by: str = "lag"
    issuer: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)


PROCESSES: Mapping[str, Process] = {
    "checkout": Process(module="checkout.main", cpu="1", cpu_share="500m", redis=True, is_public=True, scales_by="cpu"),
    "payment": Process(module="payment.main", redis=True, outside=True),
    "inventory": Process(module="inventory.main"),
    "loyalty": Process(module="loyalty.main"),
    "shipping": Process(module="shipping.main", outside=True),
    "ledger": Process(module="ledger.main"),
    # Its offsets are in its database, so Kafka knows no lag of its group; it measures the lag itself.
    "saga-tracker": Process(
        module="saga_tracker.main", cpu="1", cpu_share="500m", scales_by="measured lag", issuer=False
    ),
    "saga-tracker-api": Process(module="saga_tracker.api_main", is_public=True, scales_by="cpu"),
}


def files() -> dict[str, list[Manifest]]:
    """Return every generated file's name and what it holds."""
    databases = {services.database_of(process): process for process in reversed(list(PROCESSES))}
    made = {f"{process}.yaml": _process(process, spec) for process, spec in PROCESSES.items()}
    for database in databases:
        made[f"{_dashed(database)}.yaml"] += _database(database)
    made["topics.yaml"] = [_topic(topic) for topic in contract.topics()]
    outsiders = [login for login in contract.kafka_rights() if login not in PROCESSES]
    made["logins.yaml"] = [
        *(_kafka_user(login) for login in outsiders), _external_secret(_secret_of(AUDIT), AUDIT), _redis_logins(),
    ]  # fmt: skip
    names = [f"generated/{name}" for name in sorted(made)]
    made["kustomization.yaml"] = [
        {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
         "resources": [name.removeprefix("generated/") for name in names]}
    ]  # fmt: skip
    return made


def rendered() -> dict[str, str]:
    """Return every generated file's name and text."""
    head = "# Written by k8s/generate.py; change that.\n"
    options: Mapping[str, Any] = {"sort_keys": False, "width": 120, "default_flow_style": None}
    return {name: head + yaml.safe_dump_all(manifests, **options) for name, manifests in files().items()}


def _process(name: str, spec: Process) -> list[Manifest]:
    return [
        _named("v1", "ServiceAccount", name, automountServiceAccountToken=False),
        _deployment(name, spec),
        _named("v1", "Service", name,
               spec={"selector": _is(name), "ports": [{"name": "http", "port": HTTP, "targetPort": "http"}]}),
        _named("policy/v1", "PodDisruptionBudget", name,
               spec={"maxUnavailable": 1, "selector": {"matchLabels": _is(name)}}),
        *_scaling(name, spec),
        _kafka_user(name),
        _policy(name, spec),
    ]  # fmt: skip


def _deployment(name: str, spec: Process) -> Manifest:
    database, login = services.database_of(name), contract.package_of(name)
    service = contract.TRACKER if name == contract.TRACKER_API else name
    environment = {
        "BARAZA_SERVICE": service,
        "BARAZA_HTTP_PORT": str(HTTP),
        "BARAZA_KAFKA_USER": name,
        "BARAZA_KAFKA_PASSWORD_FILE": "/etc/baraza/kafka/password",
        "BARAZA_DATABASE_URL": _database_url(database, login),
        "BARAZA_DATABASE_PASSWORD_FILE": "/etc/baraza/database/password",
        **spec.environment,
    }
    if spec.redis:
        environment |= {"BARAZA_REDIS_USER": name, "BARAZA_REDIS_PASSWORD_FILE": "/etc/baraza/redis/password"}
    container = {
        **_container("service", [spec.module], environment, cpu=spec.cpu, memory=spec.memory, cpu_share=spec.cpu_share),
        "ports": [{"name": "http", "containerPort": HTTP}],
        # It waits up to a minute for its parts before it answers at all.
        "startupProbe": {**_probe("/livez"), "periodSeconds": 3, "failureThreshold": 30},
        "livenessProbe": {**_probe("/livez"), "periodSeconds": 10, "failureThreshold": 3},
        "readinessProbe": {**_probe("/readyz"), "periodSeconds": 3, "failureThreshold": 2},
        # Until the endpoint is gone from every node, requests still come; then it finishes its batch (9 s) and commits.
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
    }
    spread = {"maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": _is(name)}}
    pod = _pod(name, database, login, container, redis_login=name if spec.redis else None) | {
        "serviceAccountName": name,
        "terminationGracePeriodSeconds": 30,
        "topologySpreadConstraints": [
            {**spread, "topologyKey": key} for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ],
    }
    return _named("apps/v1", "Deployment", name, wave=SERVE, spec={
        # No "replicas": they are KEDA's.
        "selector": {"matchLabels": _is(name)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {"metadata": {"labels": _labels(name)}, "spec": pod},
    })  # fmt: skip


def _pod(
    kafka_login: str | None, database: str, role: str, container: Manifest, *, redis_login: str | None = None
) -> Manifest:
    """Return a pod that runs one container and may do nothing else; its logins are files that can be rotated."""
    secrets = {
        "database": _secret_of(role),
        "database-ca": f"{_dashed(database)}-db-ca",
        "kafka-ca": "baraza-cluster-ca-cert",
    }
    if kafka_login is not None:
        secrets["kafka"] = kafka_login
    if redis_login is not None:
        secrets["redis"] = REDIS_LOGINS
    keys = {"database-ca": "ca.crt", "kafka-ca": "ca.crt", "redis": redis_login}
    files = {"database-ca": "ca.crt", "kafka-ca": "ca.crt"}
    volumes: list[Manifest] = [
        {"name": name, "secret": {"secretName": secret, "items": [
            {"key": keys.get(name, "password"), "path": files.get(name, "password")}
        ]}}
        for name, secret in secrets.items()
    ]  # fmt: skip
    mounts = [{"name": name, "mountPath": f"/etc/baraza/{name}", "readOnly": True} for name in secrets]
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": UID, "runAsGroup": UID, "fsGroup": UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [{**container, "volumeMounts": [*mounts, {"name": "tmp", "mountPath": "/tmp"}]}],
        "volumes": [*volumes, {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
    }  # fmt: skip


def _container(
    image: str,
    arguments: list[str],
    environment: Mapping[str, str],
    *,
    cpu: str,
    memory: str,
    cpu_share: str = CPU_SHARE,
) -> Manifest:
    return {
        "name": "main",
        "image": f"baraza/{image}:{VERSION}",
        "args": arguments,
        "envFrom": [{"configMapRef": {"name": "baraza"}}],
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "resources": {"requests": {"cpu": cpu_share, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}},
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        },
    }  # fmt: skip


def _scaling(name: str, spec: Process) -> list[Manifest]:
    """Return how many replicas there are: never more than partitions, where partitions are what is shared out."""
    if spec.scales_by == "cpu":
        triggers: list[Manifest] = [{"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}}]
    elif spec.scales_by == "measured lag":
        query = f'sum(baraza_consumer_lag_messages{{service="{name}"}})'
        metadata = {
            "serverAddress": "http://prometheus.monitoring:9090",
            "query": query,
            "threshold": str(LAG_PER_REPLICA),
        }
        triggers = [{"type": "prometheus", "metadata": metadata}]
    else:
        metadata = {
            "bootstrapServers": f"baraza-kafka-bootstrap:{KAFKA}", "consumerGroup": name, "sasl": "scram_sha512",
            "tls": "enable", "lagThreshold": str(LAG_PER_REPLICA), "offsetResetPolicy": "earliest",
        }  # fmt: skip
        triggers = [{"type": "kafka", "metadata": metadata, "authenticationRef": {"name": name}}]
    scaled = _named("keda.sh/v1alpha1", "ScaledObject", name, spec={
        "scaleTargetRef": {"name": name}, "minReplicaCount": 2, "maxReplicaCount": PARTITIONS,
        # A change of members stops the whole group for a moment: up at once, down only after ten quiet minutes.
        "cooldownPeriod": 600, "triggers": triggers,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}}}},
    })  # fmt: skip
    if spec.scales_by != "lag":
        return [scaled]
    login = _named("keda.sh/v1alpha1", "TriggerAuthentication", name, spec={
        "env": [{"parameter": "username", "name": "BARAZA_KAFKA_USER", "containerName": "main"}],
        "secretTargetRef": [
            {"parameter": "password", "name": name, "key": "password"},
            {"parameter": "ca", "name": "baraza-cluster-ca-cert", "key": "ca.crt"},
        ],
    })  # fmt: skip
    return [scaled, login]


def _database(database: str) -> list[Manifest]:
    """Return a service's database, its logins, and the Job that makes its tables."""
    owner, name = owner_of(database), _dashed(database)
    logins = [contract.package_of(process) for process in PROCESSES if services.database_of(process) == database]
    readers = ", ".join(f'"{login}"' for login in (*logins, AUDIT))
    future = f'ALTER DEFAULT PRIVILEGES FOR ROLE "{owner}" IN SCHEMA public GRANT'
    cluster = _named("postgresql.cnpg.io/v1", "Cluster", f"{name}-db", wave="0", spec={
        "instances": 3,
        "imageName": "ghcr.io/cloudnative-pg/postgresql:18.4",
        "storage": {"size": "50Gi"},
        "walStorage": {"size": "10Gi"},
        "resources": {"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}},
        "inheritedMetadata": {"labels": {"baraza.example/database": name}},
        # One standby has every commit before it is answered: what a service has published survives its primary.
        "postgresql": {
            "parameters": {"max_connections": "200", "shared_buffers": "512MB"},
            "synchronous": {"method": "any", "number": 1},
        },
        "bootstrap": {"initdb": {
            "database": database, "owner": owner, "secret": {"name": _secret_of(owner)},
            "postInitSQL": [f'CREATE ROLE "{login}" LOGIN' for login in (*logins, AUDIT)],
            "postInitApplicationSQL": [
                f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC',
                f'GRANT CONNECT ON DATABASE "{database}" TO {readers}',
                "REVOKE ALL ON SCHEMA public FROM PUBLIC",
                f'GRANT CREATE ON SCHEMA public TO "{owner}"',
                f'GRANT USAGE ON SCHEMA public TO "{owner}", {readers}',
                *(f'{future} SELECT, INSERT, UPDATE, DELETE ON TABLES TO "{login}"' for login in logins),
                *(f'{future} USAGE, SELECT ON SEQUENCES TO "{login}"' for login in logins),
                f'{future} SELECT ON TABLES TO "{AUDIT}"',
                f'ALTER ROLE "{AUDIT}" SET default_transaction_read_only = on',
            ],
        }},
        "managed": {"roles": [
            {"name": role, "login": True, "passwordSecret": {"name": _secret_of(role)}} for role in (*logins, AUDIT)
        ]},
    })  # fmt: skip
    secrets = [_external_secret(_secret_of(role), role) for role in (owner, *logins)]
    return [cluster, *secrets, _tables_job(database), _database_policy(name)]


def _tables_job(database: str) -> Manifest:
    owner, name = owner_of(database), f"{_dashed(database)}-tables"
    environment = {
        "BARAZA_SERVICE": _dashed(database),
        "BARAZA_KAFKA_USER": _dashed(database),
        "BARAZA_KAFKA_PASSWORD_FILE": "/nonexistent",
        "BARAZA_DATABASE_URL": _database_url(database, owner),
        "BARAZA_DATABASE_PASSWORD_FILE": "/etc/baraza/database/password",
    }
    container = _container("service", ["chassis.postgres.migrate", database], environment, cpu="500m", memory="256Mi")
    pod = {**_pod(None, database, owner, container), "restartPolicy": "OnFailure"}
    labels = _labels(name) | {"baraza.example/migrates": _dashed(database)}
    return _named("batch/v1", "Job", name, wave=PREPARE, spec={
        "backoffLimit": 6, "activeDeadlineSeconds": 600, "ttlSecondsAfterFinished": 86400,
        "template": {"metadata": {"labels": labels}, "spec": pod},
    })  # fmt: skip


def _kafka_user(login: str) -> Manifest:
    """Return a Kafka login with exactly the rights that the contract says."""
    rights = contract.kafka_rights()[login]
    acls = [
        {"resource": {"type": kind, "name": name, "patternType": "literal"}, "operations": operations}
        for kind, names, operations in (
            ("topic", rights.reads, ["Read", "Describe"]),
            ("topic", rights.writes, ["Write", "Describe"]),
            ("group", rights.joins, ["Read"]),
            ("group", rights.watches, ["Describe"]),
        )
        for name in names
    ]
    spec = {"authentication": {"type": "scram-sha-512"}, "authorization": {"type": "simple", "acls": acls}}
    return _named("kafka.strimzi.io/v1", "KafkaUser", login, wave="0", labels=OF_KAFKA, spec=spec)


def _topic(topic: str) -> Manifest:
    config = {"min.insync.replicas": 2, "retention.ms": EVENTS_KEPT_MS, "cleanup.policy": "delete"}
    if topic.endswith(".dlq"):
        config |= {"max.message.bytes": 2_097_152, "retention.ms": -1}
    spec = {"topicName": topic, "partitions": PARTITIONS, "replicas": 3, "config": config}
    return _named("kafka.strimzi.io/v1", "KafkaTopic", topic.replace("_", "-"), wave="0", labels=OF_KAFKA, spec=spec)


def _external_secret(name: str, role: str) -> Manifest:
    """Return a PostgreSQL login's secret, kept outside and renewed from there."""
    template = {
        "type": "kubernetes.io/basic-auth",
        "metadata": {"labels": {"cnpg.io/reload": "true"}},
        "data": {"username": role, "password": "{{ .password }}"},
    }
    return _named("external-secrets.io/v1", "ExternalSecret", name, wave="0", spec={
        "refreshInterval": "5m",
        "secretStoreRef": {"kind": "ClusterSecretStore", "name": "baraza"},
        "target": {"name": name, "creationPolicy": "Owner", "template": template},
        "data": [{"secretKey": "password", "remoteRef": {"key": f"baraza/postgres/{role}", "property": "password"}}],
    })  # fmt: skip


def _redis_logins() -> Manifest:
    """Return the secret with the password of each login of Redis, and Redis's own file, which holds their digests."""
    users = [name for name, spec in PROCESSES.items() if spec.redis]
    rules = [
        f"user {user} on #{{{{ .{user} | sha256sum }}}} ~{contract.redis_keys()[user]} {redis.COMMANDS}"
        for user in users
    ]
    data = {redis.LOGINS: "\n".join(["user default off", *rules, ""]), **{user: f"{{{{ .{user} }}}}" for user in users}}
    return _named("external-secrets.io/v1", "ExternalSecret", REDIS_LOGINS, wave="0", spec={
        "refreshInterval": "5m",
        "secretStoreRef": {"kind": "ClusterSecretStore", "name": "baraza"},
        "target": {"name": REDIS_LOGINS, "creationPolicy": "Owner", "template": {"data": data}},
        "data": [
            {"secretKey": user, "remoteRef": {"key": f"baraza/redis/{user}", "property": "password"}} for user in users
        ],
    })  # fmt: skip


def _policy(name: str, spec: Process) -> Manifest:
    """Return every edge of a process; what is not named is refused by base/policies.yaml."""
    entry = [_in_namespace("monitoring", {})]
    if spec.is_public:
        entry.append(_in_namespace("ingress-nginx", {"app.kubernetes.io/name": "ingress-nginx"}))
    database = _dashed(services.database_of(name))
    edges: list[tuple[Manifest, int]] = [
        ({"podSelector": {"matchLabels": OF_KAFKA}}, KAFKA),
        ({"podSelector": {"matchLabels": {"baraza.example/database": database}}}, POSTGRES),
        ({"podSelector": {"matchLabels": _is("registry")}}, REGISTRY),
        (_in_namespace("monitoring", {"app.kubernetes.io/name": "opentelemetry-collector"}), OTLP),
    ]
    if spec.redis:
        edges.append(({"podSelector": {"matchLabels": _is("redis")}}, REDIS))
    if spec.issuer:
        edges.append((_in_namespace("identity", {}), HTTP))
    if spec.outside:
        private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"]
        edges.append(({"ipBlock": {"cidr": "0.0.0.0/0", "except": private}}, HTTPS))
    return _named("networking.k8s.io/v1", "NetworkPolicy", name, spec={
        "podSelector": {"matchLabels": _is(name)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": entry, "ports": [_port(HTTP)]}],
        "egress": [{"to": [peer], "ports": [_port(port)]} for peer, port in edges],
    })  # fmt: skip


def _database_policy(name: str) -> Manifest:
    """Return who may come to a database, its migration among them; its instances copy from one another."""
    own = {"baraza.example/database": name}
    users = [process for process in PROCESSES if _dashed(services.database_of(process)) == name]
    callers: list[Manifest] = [{"podSelector": {"matchLabels": _is(user)}} for user in users]
    callers += [
        {"podSelector": {"matchLabels": {label: name}}}
        for label in ("baraza.example/migrates", "baraza.example/database")
    ]
    operator = _in_namespace("cnpg-system", {})
    return _named("networking.k8s.io/v1", "NetworkPolicy", f"{name}-db", spec={
        "podSelector": {"matchLabels": own},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"from": [*callers, operator], "ports": [_port(POSTGRES)]},
            {"from": [operator, {"podSelector": {"matchLabels": own}}], "ports": [_port(8000)]},
            {"from": [_in_namespace("monitoring", {})], "ports": [_port(9187)]},
        ],
        # 443 and 6443 are the cluster's own API and the object store of the backups.
        "egress": [
            {"to": [{"podSelector": {"matchLabels": own}}], "ports": [_port(POSTGRES), _port(8000)]},
            {"ports": [_port(HTTPS), _port(6443)]},
        ],
    })  # fmt: skip


OF_KAFKA = {"strimzi.io/cluster": "baraza"}


def _named(
    version: str, kind: str, name: str, *, wave: str | None = None, labels: Mapping[str, str] | None = None, **rest: Any
) -> Manifest:
    metadata: Manifest = {"name": name, "labels": {**_labels(name), **(labels or {})}}
    if wave is not None:
        metadata["labels"]["baraza.example/wave"] = wave
        metadata["annotations"] = {"argocd.argoproj.io/sync-wave": wave}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}


def _labels(name: str) -> dict[str, str]:
    return {**_is(name), "app.kubernetes.io/part-of": "baraza"}


def _is(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": name}


def _in_namespace(namespace: str, pods: Mapping[str, str]) -> Manifest:
    peer: Manifest = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    return {**peer, "podSelector": {"matchLabels": dict(pods)}} if pods else peer


def _port(number: int) -> Manifest:
    return {"protocol": "TCP", "port": number}


def _probe(path: str) -> Manifest:
    return {"httpGet": {"path": path, "port": "http"}, "timeoutSeconds": 2}


def _dashed(database: str) -> str:
    return database.replace("_", "-")


def _secret_of(role: str) -> str:
    return f"postgres-{_dashed(role)}"


def _database_url(database: str, role: str) -> str:
    tls = "sslmode=verify-full&sslrootcert=/etc/baraza/database-ca/ca.crt"
    return f"postgresql+psycopg://{role}@{_dashed(database)}-db-rw:{POSTGRES}/{database}?{tls}"


def main() -> None:
    """Write the files, and remove those that are no longer made."""
    folder = BASE / "generated"
    folder.mkdir(exist_ok=True)
    texts = rendered()
    for old in {path.name for path in folder.iterdir()} - set(texts):
        (folder / old).unlink()
    for name, text in texts.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
