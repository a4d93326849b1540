"""``python k8s/generate.py``: writes the manifests of every service to ``base/generated``, from the code's names.

Each service has one file: deployment, scaling, database, Kafka login, secrets, policy. Kafka, Redis, the registry and
the overlays are written by hand beside it. A test compares the files with this program's output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from chassis.postgres.bounds import SERVER_PARAMETERS
from chassis.postgres.database import POOL_SIZE_MAX
from chassis.process.service import START_WITHIN_S, STOP_WITHIN_S
from stack import contract, deploy, redis, services
from stack.contract import AUDIT, owner_of

BASE = Path(__file__).with_name("base")
PARTITIONS = 12
"""The same for every topic, and permanent; a group has at most this many working members."""
SURGE = 1
"""More pods of a process than its replicas, while a release rolls out."""
OTHER_CONNECTIONS = 40
"""Of a database: the audit, migrations, the operator and its replication, and what PostgreSQL reserves."""
PRE_STOP_S = 5
"""Until the endpoint is gone from every node."""
PROBE_TIMEOUT_S = 2
START_PROBE_S = 3
VERSION = "0.1.0"
UID = 10001
HTTP, KAFKA, POSTGRES, REDIS, REGISTRY, OTLP, HTTPS = 8080, 9093, 5432, 6379, 8080, 4318, 443
NOT_PUBLIC = (
    "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4",
)  # fmt: skip
"""Addresses that no process reaches outside of the cluster: private ones, and those of clouds' metadata."""
LAG_PER_REPLICA = 200
"""Messages; a replica handles some hundreds a second, so this is a lag of about a second."""
PREPARE, SERVE = "1", "2"
"""Argo CD's waves: Jobs before the roll-out. For kubectl there is the label baraza.example/wave, see operations.md."""
CPU_SHARE = "100m"
EVENTS_KEPT_MS = 90 * 24 * 3600 * 1000
"""Longer than any backup is kept, so that a restored database can always catch up from Kafka."""

REDIS_LOGINS = "redis-logins"
WEBHOOK_SECRETS = services.WEBHOOK_SECRETS
"""The secrets of the courier's webhooks: the newest, and the one before in a second line while it is replaced."""
GATEWAY_ACCOUNTS, GATEWAY_KEYS = "gateway-accounts", "gateway-keys"
"""The accounts at gateways, which an overlay describes, and the files with their keys and secrets."""
SHORT_CODES, SHORT_CODE_KEYS = "short-codes", "short-code-keys"
"""Our short codes at providers of mobile money, which an overlay describes, and the files with their keys."""
RISK_RULES = "risk-rules"
"""The rules of risk, which an overlay holds."""
MERCHANT_KEYS = {
    services.PAYER_KEY: "BARAZA_PAYER_KEY_FILE",
    services.MERCHANT_TOKEN_KEY: "BARAZA_MERCHANT_TOKEN_KEY_FILE",
}
PHONE_KEYS = {services.PHONE_KEY: "BARAZA_PHONE_KEY_FILE"}
WEBHOOK_KEYS = {services.WEBHOOK_KEY: "BARAZA_WEBHOOK_KEY_FILE"}
"""The keys that one process alone has, by the setting that names each file."""

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Everything in which the processes differ."""

    module: str
    cpu: str = "500m"
    cpu_share: str = CPU_SHARE
    """Its guaranteed share, and its weight where a node's processors are busy."""
    memory: str = "384Mi"
    redis: bool = False
    outside: bool = False
    is_public: bool = False
    webhooks: bool = False
    """The courier calls it back, through the ingress."""
    accounts: bool = False
    """It knows the accounts at gateways."""
    account_keys: bool = False
    """It has their keys, and is called back through the ingress where it awaits outcomes."""
    short_codes: bool = False
    """It has our short codes at providers of mobile money, and is called back through the ingress."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Its own keys, by the setting that names each file."""
    ports_outside: tuple[int, ...] = (HTTPS,)
    """What it reaches outside of the cluster, where it may."""
    takes_merchants_tokens: bool = False
    """It verifies them by the keys that merchant publishes."""
    rules: bool = False
    """It decides by rules that the overlay holds."""
    scales_by: str = "lag"
    issuer: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)


PROCESSES: Mapping[str, Process] = {
    "checkout": Process(module="checkout.main", cpu="1", cpu_share="500m", redis=True, is_public=True, scales_by="cpu"),
    "merchant": Process(
        module="merchant.main",
        cpu="1",
        cpu_share="500m",
        redis=True,
        is_public=True,
        accounts=True,
        scales_by="cpu",
        keys=MERCHANT_KEYS,
    ),
    "payment": Process(module="payment.main", redis=True, outside=True, accounts=True, account_keys=True),
    "inventory": Process(module="inventory.main"),
    "loyalty": Process(module="loyalty.main"),
    "shipping": Process(module="shipping.main", outside=True, webhooks=True),
    "ledger": Process(module="ledger.main"),
    "risk": Process(module="risk.main", rules=True),
    "notifier": Process(
        module="notifier.main",
        is_public=True,
        outside=True,
        ports_outside=(HTTPS, 8443),
        keys=WEBHOOK_KEYS,
        takes_merchants_tokens=True,
    ),
    "reconciliation": Process(
        module="reconciliation.main", memory="1Gi", outside=True, accounts=True, account_keys=True
    ),
    "members": Process(module="members.main", redis=True, is_public=True, keys=PHONE_KEYS),
    "mobile-money": Process(module="mobile_money.main", outside=True, short_codes=True, keys=PHONE_KEYS),
    # Its offsets are in its database, so Kafka knows no lag of its group; it exports the lag itself.
    "saga-tracker": Process(
        module="saga_tracker.main", cpu="1", cpu_share="500m", scales_by="measured lag", issuer=False
    ),
    "saga-tracker-api": Process(module="saga_tracker.api_main", is_public=True, scales_by="cpu"),
}
CONSOLE = contract.CONSOLE
CONSOLE_APIS = (
    contract.TRACKER_API, "ledger", "payment", "shipping", "merchant", "notifier", "reconciliation", "members",
    "mobile-money",
)  # fmt: skip
"""The services whose APIs the console calls."""
ROLLED_OUT = (*PROCESSES, CONSOLE)
"""Every process of ours; each has a database."""
TICKETS = f"{CONSOLE}-tickets"
"""The secret with the console's login at an ITSM. Without it, and without ``BARAZA_TICKETS``, there are no tickets."""
TICKET_KEYS = {
    services.TICKETS_LOGIN: "BARAZA_TICKETS_SECRET_FILE",
    services.TICKETS_ALERTMANAGER: "BARAZA_TICKETS_ALERTMANAGER_FILE",
}
CONSOLE_KEYS = {
    services.CONSOLE_KEY: "BARAZA_CONSOLE_KEY_FILE",
    services.CONSOLE_CLIENT: "BARAZA_CONSOLE_CLIENT_SECRET_FILE",
}


def files() -> dict[str, list[Manifest]]:
    """Return the manifests of every generated file, by name."""
    databases = {services.database_of(process): process for process in reversed(ROLLED_OUT)}
    made = {f"{process}.yaml": _process(process, spec) for process, spec in PROCESSES.items()}
    made[f"{CONSOLE}.yaml"] = _console()
    for database in databases:
        made[f"{_dashed(database)}.yaml"] += _database(database)
    made["topics.yaml"] = [_topic(topic) for topic in contract.topics()]
    outsiders = [login for login in contract.kafka_rights() if login not in PROCESSES]
    made["logins.yaml"] = [
        *(_kafka_user(login) for login in outsiders), _external_secret(_secret_of(AUDIT), AUDIT), _redis_logins(),
        _webhook_secrets(), _files_of(GATEWAY_KEYS, GATEWAY_ACCOUNTS), _files_of(SHORT_CODE_KEYS, SHORT_CODES),
        *(_key_secret(process, spec.keys) for process, spec in PROCESSES.items() if spec.keys),
    ]  # fmt: skip
    names = [f"generated/{name}" for name in sorted(made)]
    made["kustomization.yaml"] = [
        {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
         "resources": [name.removeprefix("generated/") for name in names]}
    ]  # fmt: skip
    return made


def rendered() -> dict[str, str]:
    """Return the text of every generated file, by name."""
    head = "# Generated by k8s/generate.py; change that program instead.\n"
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
    environment = _environment(name, spec, database, login)
    container = {
        **_container("service", [spec.module], environment, cpu=spec.cpu, memory=spec.memory, cpu_share=spec.cpu_share),
        "ports": [{"name": "http", "containerPort": HTTP}],
        **_probes(),
        # Requests arrive until the endpoint is gone from every node; then it finishes its batch and commits.
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_S}}},
    }  # fmt: skip
    return _rolled_out(name, _pod(name, database, login, container, spec=spec))


def _rolled_out(name: str, isolated: Manifest) -> Manifest:
    """Return the Deployment of a process's pod: spread over nodes, rolled out without a gap, stopped with time."""
    spread = {"maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": _is(name)}}
    pod = isolated | {
        "serviceAccountName": name,
        # Twice what it takes: a busy node stops it later.
        "terminationGracePeriodSeconds": round(2 * (PRE_STOP_S + STOP_WITHIN_S)),
        "topologySpreadConstraints": [
            {**spread, "topologyKey": key} for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ],
    }
    return _named("apps/v1", "Deployment", name, wave=SERVE, spec={
        # No "replicas": KEDA sets them.
        "selector": {"matchLabels": _is(name)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": SURGE, "maxUnavailable": 0}},
        "template": {"metadata": {"labels": _labels(name)}, "spec": pod},
    })  # fmt: skip


def _console() -> list[Manifest]:
    """Return the manifests of the console: it has a small database, and no login at Kafka.

    Its own ConfigMap, which an overlay makes, names its address and the provider's where they differ.
    """
    spec = Process(module="console.main", cpu="1", memory="256Mi", redis=True, is_public=True, scales_by="cpu")
    keys = _keys_of(CONSOLE)
    environment = {
        "BARAZA_SERVICE": CONSOLE,
        "BARAZA_HTTP_PORT": str(HTTP),
        "BARAZA_DATABASE_URL": _database_url(contract.package_of(CONSOLE), contract.package_of(CONSOLE)),
        "BARAZA_DATABASE_PASSWORD_FILE": "/etc/baraza/database/password",
        "BARAZA_REDIS_USER": CONSOLE,
        "BARAZA_REDIS_PASSWORD_FILE": "/etc/baraza/redis/password",
        "BARAZA_CONSOLE_APIS": " ".join(f"{service}=http://{service}:{HTTP}" for service in CONSOLE_APIS),
        **{setting: f"/etc/baraza/{keys}/{key}" for key, setting in CONSOLE_KEYS.items()},
        **{setting: f"/etc/baraza/{TICKETS}/{key}" for key, setting in TICKET_KEYS.items()},
    }
    container = {
        **_container("service", [spec.module], environment, cpu=spec.cpu, memory=spec.memory),
        "ports": [{"name": "http", "containerPort": HTTP}],
        **_probes(),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_S}}},
    }
    container["envFrom"] = [*container["envFrom"], {"configMapRef": {"name": CONSOLE}}]
    volumes: list[Manifest] = [
        *_of_database(contract.package_of(CONSOLE)),
        {"name": "redis", "secret": {"secretName": REDIS_LOGINS, "items": [{"key": CONSOLE, "path": "password"}]}},
        {"name": keys, "secret": {"secretName": keys}},
        {"name": TICKETS, "secret": {"secretName": TICKETS, "optional": True,
                                     "items": [{"key": key, "path": key} for key in TICKET_KEYS]}},
    ]  # fmt: skip
    return [
        _named("v1", "ServiceAccount", CONSOLE, automountServiceAccountToken=False),
        _rolled_out(CONSOLE, _isolated(container, volumes)),
        _named("v1", "Service", CONSOLE,
               spec={"selector": _is(CONSOLE), "ports": [{"name": "http", "port": HTTP, "targetPort": "http"}]}),
        _named("policy/v1", "PodDisruptionBudget", CONSOLE,
               spec={"maxUnavailable": 1, "selector": {"matchLabels": _is(CONSOLE)}}),
        *_scaling(CONSOLE, spec),
        _key_secret(CONSOLE, CONSOLE_KEYS),
        _console_policy(),
    ]  # fmt: skip


def _of_database(login: str) -> list[Manifest]:
    """Return the files of a database's login, without those of Kafka."""
    volumes = _volumes(None, services.database_of(login), login, None)
    return [volume for volume in volumes if volume["name"].startswith("database")]


def _console_policy() -> Manifest:
    """Return every allowed connection of the console. The provider is in the cluster, or outside of it."""
    entry = [
        _in_namespace("monitoring", {}),
        _in_namespace("ingress-nginx", {"app.kubernetes.io/name": "ingress-nginx"}),
        # The provider ends sessions.
        _in_namespace("identity", {}),
    ]
    edges: list[tuple[Manifest, int]] = [
        ({"podSelector": {"matchLabels": {"baraza.example/database": CONSOLE}}}, POSTGRES),
        ({"podSelector": {"matchLabels": _is("redis")}}, REDIS),
        (_in_namespace("identity", {}), HTTP),
        ({"ipBlock": {"cidr": "0.0.0.0/0", "except": list(NOT_PUBLIC)}}, HTTPS),
        *(({"podSelector": {"matchLabels": _is(service)}}, HTTP) for service in CONSOLE_APIS),
    ]
    return _named("networking.k8s.io/v1", "NetworkPolicy", CONSOLE, spec={
        "podSelector": {"matchLabels": _is(CONSOLE)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": entry, "ports": [_port(HTTP)]}],
        "egress": [{"to": [peer], "ports": [_port(port)]} for peer, port in edges],
    })  # fmt: skip


def _environment(name: str, spec: Process, database: str, login: str) -> dict[str, str]:
    """Return the variables that a process has besides those of the ConfigMap for all."""
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
    if spec.webhooks:
        environment["BARAZA_COURIER_WEBHOOK_SECRET_FILE"] = f"/etc/baraza/{WEBHOOK_SECRETS}/secrets"
    if spec.accounts:
        environment["BARAZA_GATEWAY_ACCOUNTS_FILE"] = f"/etc/baraza/{GATEWAY_ACCOUNTS}/accounts.json"
    if spec.short_codes:
        environment["BARAZA_SHORT_CODES_FILE"] = f"/etc/baraza/{SHORT_CODES}/short-codes.json"
    if spec.rules:
        environment["BARAZA_RISK_RULES_FILE"] = f"/etc/baraza/{RISK_RULES}/rules.toml"
    if spec.takes_merchants_tokens:
        environment["BARAZA_MERCHANT_JWKS_URL"] = f"http://{contract.token_issuer()}:{HTTP}/.well-known/jwks.json"
    environment |= {setting: f"/etc/baraza/{_keys_of(name)}/{key}" for key, setting in spec.keys.items()}
    return environment


def _probes() -> Manifest:
    return {
        # It waits for its dependencies before it answers at all; half as long again for a busy node.
        "startupProbe": {
            **_probe("/livez"), "periodSeconds": START_PROBE_S,
            "failureThreshold": round(1.5 * START_WITHIN_S / START_PROBE_S),
        },
        "livenessProbe": {**_probe("/livez"), "periodSeconds": 10, "failureThreshold": 3},
        "readinessProbe": {**_probe("/readyz"), "periodSeconds": 3, "failureThreshold": 2},
    }  # fmt: skip


def _pod(
    kafka_login: str | None,
    database: str,
    role: str,
    container: Manifest,
    *,
    spec: Process | None = None,
) -> Manifest:
    """Return a pod with one container and no other privileges; its logins are files that can be rotated."""
    return _isolated(container, _volumes(kafka_login, database, role, spec))


def _isolated(container: Manifest, volumes: list[Manifest]) -> Manifest:
    """Return a pod with one container, these files, and no other privileges."""
    names = [volume["name"] for volume in volumes]
    mounts = [{"name": name, "mountPath": f"/etc/baraza/{name}", "readOnly": True} for name in names]
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


def _volumes(kafka_login: str | None, database: str, role: str, spec: Process | None) -> list[Manifest]:
    """Return a pod's files with logins and certificates, and those of the accounts at gateways."""
    redis_login = kafka_login if spec is not None and spec.redis else None
    webhooks = spec is not None and spec.webhooks
    secrets = {
        "database": _secret_of(role),
        "database-ca": f"{_dashed(database)}-db-ca",
        "kafka-ca": "baraza-cluster-ca-cert",
    }
    if kafka_login is not None:
        secrets["kafka"] = kafka_login
    if redis_login is not None:
        secrets["redis"] = REDIS_LOGINS
    if webhooks:
        secrets[WEBHOOK_SECRETS] = WEBHOOK_SECRETS
    keys = {"database-ca": "ca.crt", "kafka-ca": "ca.crt", "redis": redis_login, WEBHOOK_SECRETS: "secrets"}
    files = {"database-ca": "ca.crt", "kafka-ca": "ca.crt", WEBHOOK_SECRETS: "secrets"}
    volumes: list[Manifest] = [
        {"name": name, "secret": {"secretName": secret, "items": [
            {"key": keys.get(name, "password"), "path": files.get(name, "password")}
        ]}}
        for name, secret in secrets.items()
    ]  # fmt: skip
    if spec is not None and spec.accounts:
        volumes.append({"name": GATEWAY_ACCOUNTS, "configMap": {"name": GATEWAY_ACCOUNTS}})
    if spec is not None and spec.account_keys:
        # All of its files: an overlay says which accounts there are.
        volumes.append({"name": GATEWAY_KEYS, "secret": {"secretName": GATEWAY_KEYS}})
    if spec is not None and spec.short_codes:
        volumes.append({"name": SHORT_CODES, "configMap": {"name": SHORT_CODES}})
        volumes.append({"name": SHORT_CODE_KEYS, "secret": {"secretName": SHORT_CODE_KEYS}})
    if spec is not None and spec.rules:
        volumes.append({"name": RISK_RULES, "configMap": {"name": RISK_RULES}})
    if spec is not None and spec.keys and kafka_login is not None:
        volumes.append({"name": _keys_of(kafka_login), "secret": {"secretName": _keys_of(kafka_login)}})
    return volumes


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
    """Return the scaling of a process: never more replicas than partitions."""
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
        # A change of members pauses the whole group: scale up at once, down only after ten quiet minutes.
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
    """Return a service's database, its logins, and the Job that creates its tables."""
    owner, name = owner_of(database), _dashed(database)
    logins = [contract.package_of(process) for process in ROLLED_OUT if services.database_of(process) == database]
    auditors = [AUDIT] if database in contract.database_rights()[AUDIT].databases else []
    readers = ", ".join(f'"{login}"' for login in (*logins, *auditors))
    future = f'ALTER DEFAULT PRIVILEGES FOR ROLE "{owner}" IN SCHEMA public GRANT'
    cluster = _named("postgresql.cnpg.io/v1", "Cluster", f"{name}-db", wave="0", spec={
        "instances": 3,
        "imageName": "ghcr.io/cloudnative-pg/postgresql:18.4",
        "storage": {"size": "50Gi"},
        "walStorage": {"size": "10Gi"},
        "resources": {"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}},
        "inheritedMetadata": {"labels": {"baraza.example/database": name}},
        # One standby has every commit before it is acknowledged: what a service published survives its primary.
        "postgresql": {
            "parameters": {"max_connections": _connections(database), "shared_buffers": "512MB", **SERVER_PARAMETERS},
            "synchronous": {"method": "any", "number": 1},
        },
        "bootstrap": {"initdb": {
            "database": database, "owner": owner, "secret": {"name": _secret_of(owner)},
            "postInitSQL": [f'CREATE ROLE "{login}" LOGIN' for login in (*logins, *auditors)],
            "postInitApplicationSQL": [
                f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC',
                f'GRANT CONNECT ON DATABASE "{database}" TO {readers}',
                "REVOKE ALL ON SCHEMA public FROM PUBLIC",
                f'GRANT CREATE ON SCHEMA public TO "{owner}"',
                f'GRANT USAGE ON SCHEMA public TO "{owner}", {readers}',
                *(f'{future} SELECT, INSERT, UPDATE, DELETE ON TABLES TO "{login}"' for login in logins),
                *(f'{future} USAGE, SELECT ON SEQUENCES TO "{login}"' for login in logins),
                *(f'{future} SELECT ON TABLES TO "{login}"' for login in auditors),
                *(f'ALTER ROLE "{login}" SET default_transaction_read_only = on' for login in auditors),
            ],
        }},
        "managed": {"roles": [_managed(role) for role in (*logins, *auditors)]},
    })  # fmt: skip
    secrets = [_external_secret(_secret_of(role), role) for role in (owner, *logins)]
    return [cluster, *secrets, _tables_job(database), _database_policy(name)]


def _managed(role: str) -> Manifest:
    return {"name": role, "login": True, "passwordSecret": {"name": _secret_of(role)}}


def _connections(database: str) -> str:
    """Return how many connections a database allows: the whole pool of every pod that there may be."""
    processes = sum(services.database_of(process) == database for process in ROLLED_OUT)
    return str(processes * (PARTITIONS + SURGE) * POOL_SIZE_MAX + OTHER_CONNECTIONS)


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
    """Return a Kafka login with exactly the contract's rights."""
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
    kept_ms = -1 if topic.endswith(deploy.DEAD_LETTERS) else EVENTS_KEPT_MS
    config = {"min.insync.replicas": 2, "retention.ms": kept_ms, "cleanup.policy": "delete"}
    config |= deploy.settings_of(topic)
    spec = {"topicName": topic, "partitions": PARTITIONS, "replicas": 3, "config": config}
    return _named("kafka.strimzi.io/v1", "KafkaTopic", topic.replace("_", "-"), wave="0", labels=OF_KAFKA, spec=spec)


def _external_secret(name: str, role: str) -> Manifest:
    """Return a PostgreSQL login's secret, which is stored and renewed outside of the cluster."""
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
    """Return the secret with each Redis login's password, and with Redis' own file, which holds their digests."""
    users = [*(name for name, spec in PROCESSES.items() if spec.redis), CONSOLE]
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


def _webhook_secrets() -> Manifest:
    return _named("external-secrets.io/v1", "ExternalSecret", WEBHOOK_SECRETS, wave="0", spec={
        "refreshInterval": "5m",
        "secretStoreRef": {"kind": "ClusterSecretStore", "name": "baraza"},
        "target": {"name": WEBHOOK_SECRETS, "creationPolicy": "Owner"},
        "data": [
            {"secretKey": "secrets", "remoteRef": {"key": "baraza/courier/webhook", "property": "secrets"}}
        ],
    })  # fmt: skip


def _files_of(name: str, described: str) -> Manifest:
    """Return the secret with the keys of accounts that an overlay describes, and with what signs their callbacks."""
    return _named("external-secrets.io/v1", "ExternalSecret", name, wave="0", spec={
        "refreshInterval": "5m",
        "secretStoreRef": {"kind": "ClusterSecretStore", "name": "baraza"},
        "target": {"name": name, "creationPolicy": "Owner"},
        "dataFrom": [{"extract": {"key": f"baraza/{described}"}}],
    })  # fmt: skip


def _key_secret(process: str, keys: Mapping[str, str]) -> Manifest:
    """Return the secret with the keys that this process alone has."""
    return _named("external-secrets.io/v1", "ExternalSecret", _keys_of(process), wave="0", spec={
        "refreshInterval": "5m",
        "secretStoreRef": {"kind": "ClusterSecretStore", "name": "baraza"},
        "target": {"name": _keys_of(process), "creationPolicy": "Owner"},
        "data": [
            {"secretKey": key, "remoteRef": {"key": f"baraza/{_holder_of(process, key)}/{key}", "property": "keys"}}
            for key in keys
        ],
    })  # fmt: skip


def _holder_of(process: str, key: str) -> str:
    """Return under whose name a key is stored: a key that several processes have is stored once."""
    return next((name for name, spec in PROCESSES.items() if key in spec.keys), process)


def _policy(name: str, spec: Process) -> Manifest:
    """Return every allowed connection of a process; base/policies.yaml denies all others."""
    entry = [_in_namespace("monitoring", {})]
    is_called_back = spec.webhooks or spec.short_codes or (spec.account_keys and name in contract.called_back())
    if spec.is_public or is_called_back:
        entry.append(_in_namespace("ingress-nginx", {"app.kubernetes.io/name": "ingress-nginx"}))
    if name == contract.token_issuer():
        verifiers = [process for process, other in PROCESSES.items() if other.takes_merchants_tokens]
        entry += [{"podSelector": {"matchLabels": _is(process)}} for process in verifiers]
    if name in CONSOLE_APIS:
        entry.append({"podSelector": {"matchLabels": _is(CONSOLE)}})
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
    if spec.takes_merchants_tokens:
        edges.append(({"podSelector": {"matchLabels": _is(contract.token_issuer())}}, HTTP))
    if spec.outside:
        public = {"ipBlock": {"cidr": "0.0.0.0/0", "except": list(NOT_PUBLIC)}}
        edges += [(public, port) for port in spec.ports_outside]
    return _named("networking.k8s.io/v1", "NetworkPolicy", name, spec={
        "podSelector": {"matchLabels": _is(name)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": entry, "ports": [_port(HTTP)]}],
        "egress": [{"to": [peer], "ports": [_port(port)]} for peer, port in edges],
    })  # fmt: skip


def _database_policy(name: str) -> Manifest:
    """Return the allowed connections of a database: processes, the migration, and its instances for replication."""
    own = {"baraza.example/database": name}
    users = [process for process in ROLLED_OUT if _dashed(services.database_of(process)) == name]
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
        # 443 and 6443 are the cluster's API and the object store of the backups.
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
    return {"httpGet": {"path": path, "port": "http"}, "timeoutSeconds": PROBE_TIMEOUT_S}


def _dashed(database: str) -> str:
    return database.replace("_", "-")


def _keys_of(process: str) -> str:
    return f"{process}-keys"


def _secret_of(role: str) -> str:
    return f"postgres-{_dashed(role)}"


def _database_url(database: str, role: str) -> str:
    tls = "sslmode=verify-full&sslrootcert=/etc/baraza/database-ca/ca.crt"
    return f"postgresql+psycopg://{role}@{_dashed(database)}-db-rw:{POSTGRES}/{database}?{tls}"


def main() -> None:
    """Write the files, and remove those that are no longer generated."""
    folder = BASE / "generated"
    folder.mkdir(exist_ok=True)
    texts = rendered()
    for old in {path.name for path in folder.iterdir()} - set(texts):
        (folder / old).unlink()
    for name, text in texts.items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
