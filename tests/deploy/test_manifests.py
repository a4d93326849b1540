"""k8s/: kustomize's output of both overlays is valid, complete, and has the code's own names."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from pydantic import TypeAdapter

from chassis.http import gateway_accounts
from chassis.http.issuers import Issuers
from chassis.settings import Settings, TrustedIssuer
from console.settings import ConsoleSettings
from deploy.engine import CHECKOUT, GO_MODULES, run
from notifier.model import addresses
from risk import rules as risk_rules
from stack import contract, gotools, issuers, providers, redis, services
from stack.contract import owner_of
from stack.gotools import GoProgram
from stack.settings import from_environment

KUSTOMIZE = GoProgram(name="kustomize", package="sigs.k8s.io/kustomize/kustomize/v5", module=GO_MODULES / "kustomize")
OVERLAYS = ("dev", "prod")
KUBERNETES = "1.34"
"""The oldest version that the manifests are for; newer ones accept them as well."""
K8S = CHECKOUT / "k8s"
SECRETIVE = re.compile(r"password|secret|token|key", re.IGNORECASE)

Manifest = dict[str, Any]

pytestmark = pytest.mark.timeout(600)


class Cluster:
    """The manifests of one overlay, by kind and name."""

    def __init__(self, manifests: list[Manifest]) -> None:
        self.manifests = manifests

    def of(self, kind: str) -> dict[str, Manifest]:
        """Return every manifest of a kind by its name."""
        return {one["metadata"]["name"]: one for one in self.manifests if one["kind"] == kind}

    def pods(self) -> Iterator[tuple[str, Manifest]]:
        """Yield every pod, with the name of its Deployment or Job."""
        for kind in ("Deployment", "Job"):
            for name, one in self.of(kind).items():
                yield name, one["spec"]["template"]["spec"]


@pytest.fixture(scope="module", params=OVERLAYS)
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """An overlay, built by kustomize."""
    kustomize = gotools.build(KUSTOMIZE, from_environment(os.environ).cache)
    text = run((str(kustomize), "build", str(K8S / "overlays" / request.param)))
    return Cluster(list(yaml.safe_load_all(text)))


def test_the_generated_files_are_current() -> None:
    made = _generator().rendered()
    folder = K8S / "base" / "generated"
    there = {path.name: path.read_text() for path in folder.iterdir()}
    assert there == made, "Run python k8s/generate.py."


def test_every_manifest_is_strictly_valid_by_its_schema(cluster: Cluster) -> None:
    for one in cluster.manifests:
        try:
            _validate(one)
        except jsonschema.ValidationError as error:
            pytest.fail(f"{one['kind']} {one['metadata']['name']}: {error.json_path}: {error.message[:400]}")
    names = Counter((one["kind"], one["metadata"]["name"]) for one in cluster.manifests)
    assert not [name for name, count in names.items() if count > 1]


@pytest.mark.parametrize(
    ("kind", "path"),
    [("Deployment", "spec.template.spec"), ("Cluster", "spec"), ("KafkaUser", "spec"), ("ScaledObject", "spec")],
)
def test_a_typing_error_is_found(cluster: Cluster, kind: str, path: str) -> None:
    broken = json.loads(json.dumps(next(iter(cluster.of(kind).values()))))
    part = broken
    for step in path.split("."):
        part = part[step]
    part["slip"] = True
    with pytest.raises(jsonschema.ValidationError, match="slip"):
        _validate(broken)


def test_every_process_of_the_code_has_all_its_manifests(cluster: Cluster) -> None:
    kinds = (
        "Deployment",
        "Service",
        "ServiceAccount",
        "PodDisruptionBudget",
        "ScaledObject",
        "KafkaUser",
        "NetworkPolicy",
    )
    for process in services.workers():
        assert not [kind for kind in kinds if process not in cluster.of(kind)], process
        deployment = cluster.of("Deployment")[process]["spec"]["template"]["spec"]
        (container,) = deployment["containers"]
        assert importlib.util.find_spec(container["args"][0]), container["args"]
        assert {"startupProbe", "livenessProbe", "readinessProbe", "lifecycle"} <= set(container)
        assert len(deployment["topologySpreadConstraints"]) == 2
        scaled = cluster.of("ScaledObject")[process]["spec"]
        assert scaled["maxReplicaCount"] <= next(iter(cluster.of("KafkaTopic").values()))["spec"]["partitions"]
        assert [trigger["type"] for trigger in scaled["triggers"]] != ["kafka"] or process not in (
            contract.TRACKER_API, contract.TRACKER
        ), "the tracker's offsets are in its database, so Kafka knows no lag of it"  # fmt: skip


def test_a_process_gets_only_settings_that_exist_and_its_own_logins(cluster: Cluster) -> None:
    known = {f"BARAZA_{name.upper()}" for name in Settings.model_fields}
    (shared,) = (one["data"] for name, one in cluster.of("ConfigMap").items() if name.startswith("baraza-"))
    for process in services.workers():
        variables = dict(shared) | _environment(cluster, process)
        assert set(variables) <= known, set(variables) - known
        missing = {f"BARAZA_{name.upper()}" for name, one in Settings.model_fields.items() if one.is_required()} - set(
            variables
        )
        assert not missing, process
        database, login = services.database_of(process), contract.package_of(process)
        assert f"//{login}@{database.replace('_', '-')}-db-rw:5432/{database}?" in variables["BARAZA_DATABASE_URL"]
        assert "sslmode=verify-full" in variables["BARAZA_DATABASE_URL"]
        assert variables["BARAZA_KAFKA_USER"] == process


def test_every_process_trusts_both_issuers_each_with_the_roles_of_the_contract(cluster: Cluster) -> None:
    (shared,) = (one["data"] for name, one in cluster.of("ConfigMap").items() if name.startswith("baraza-"))
    staff, customers = TypeAdapter(tuple[TrustedIssuer, TrustedIssuer]).validate_json(shared["BARAZA_ISSUERS"])
    assert (staff.issuer, staff.jwks_url, staff.audience) == (
        shared["BARAZA_ISSUER"], shared["BARAZA_JWKS_URL"], shared["BARAZA_AUDIENCE"]
    ), "the console signs people in at the staff's"  # fmt: skip
    assert set(staff.may_be) == set(issuers.STAFF_ROLES)
    assert set(customers.may_be) == set(issuers.CUSTOMERS_ROLES)
    assert customers.always == ("customer",)
    assert customers.audience == staff.audience
    assert (customers.issuer, customers.jwks_url) != (staff.issuer, staff.jwks_url)
    Issuers((staff, customers))


def test_the_console_has_its_own_settings_keys_connections_and_database(cluster: Cluster) -> None:
    deployment = cluster.of("Deployment")[contract.CONSOLE]["spec"]["template"]["spec"]
    (container,) = deployment["containers"]
    assert importlib.util.find_spec(container["args"][0])
    given = _environment(cluster, contract.CONSOLE)
    for reference in container["envFrom"]:
        given = {**cluster.of("ConfigMap")[reference["configMapRef"]["name"]]["data"], **given}
    fields = ConsoleSettings.model_fields
    required = {f"BARAZA_{name.upper()}" for name, one in fields.items() if one.is_required()}
    assert required <= set(given)
    assert set(_environment(cluster, contract.CONSOLE)) <= {f"BARAZA_{name.upper()}" for name in fields}
    provided = set(_files(cluster, contract.CONSOLE))
    assert {given[name] for name in given if name.startswith("BARAZA_CONSOLE") and name.endswith("_FILE")} <= provided
    assert given["BARAZA_DATABASE_PASSWORD_FILE"] in provided
    assert "//console@console-db-rw:5432/console?sslmode=verify-full" in given["BARAZA_DATABASE_URL"]
    assert not any("kafka" in folder for folder in _folders(cluster, contract.CONSOLE))
    assert {given[name] for name in given if name.startswith("BARAZA_TICKETS") and name.endswith("_FILE")} <= provided
    # Without a secret the pod starts, and without the first setting it opens no ticket.
    (tickets,) = (each["secret"] for each in deployment["volumes"] if each["name"] == "console-tickets")
    assert tickets["optional"]
    assert "BARAZA_TICKETS" not in given
    policies = cluster.of("NetworkPolicy")
    apis = {each.partition("=")[0] for each in given["BARAZA_CONSOLE_APIS"].split()}
    assert set(_peers(policies[contract.CONSOLE]["spec"]["egress"])) == {*apis, "redis"}
    for service in apis:
        entries = [{"to": each["from"]} for each in policies[service]["spec"]["ingress"]]
        assert contract.CONSOLE in set(_peers(entries)), service
    for kind in ("Service", "ServiceAccount", "PodDisruptionBudget", "ScaledObject"):
        assert contract.CONSOLE in cluster.of(kind)


def test_every_service_has_a_database_with_the_logins_of_the_contract(cluster: Cluster) -> None:
    kept = cluster.of("ExternalSecret").items()
    stored = [one["spec"]["target"]["template"]["data"] for name, one in kept if name.startswith("postgres-")]
    secrets = {login["username"] for login in stored}
    for database in contract.databases():
        name = database.replace("_", "-")
        one = cluster.of("Cluster")[f"{name}-db"]["spec"]
        made = one["bootstrap"]["initdb"]
        assert (made["database"], made["owner"]) == (database, owner_of(database))
        rights = contract.database_rights()
        logins = {login for login, right in rights.items() if database in right.databases}
        assert {role["name"] for role in one["managed"]["roles"]} | {owner_of(database)} == logins
        assert logins <= secrets
        job = cluster.of("Job")[f"{name}-tables"]["spec"]["template"]["spec"]
        assert job["containers"][0]["args"] == ["chassis.postgres.migrate", database]
        assert f"//{owner_of(database)}@" in _of(job["containers"][0]["env"])["BARAZA_DATABASE_URL"]


def test_topics_and_rights_on_kafka_are_those_of_the_contract(cluster: Cluster) -> None:
    topics = {one["spec"]["topicName"]: one["spec"] for one in cluster.of("KafkaTopic").values()}
    assert set(topics) == set(contract.topics())
    assert len({one["partitions"] for one in topics.values()}) == 1
    users = cluster.of("KafkaUser")
    assert set(users) == set(contract.kafka_rights())
    for login, rights in contract.kafka_rights().items():
        acls = users[login]["spec"]["authorization"]["acls"]
        granted = {(acl["resource"]["type"], acl["resource"]["name"], acl["operations"][0]) for acl in acls}
        assert granted == {
            *(("topic", name, "Read") for name in rights.reads),
            *(("topic", name, "Write") for name in rights.writes),
            *(("group", name, "Read") for name in rights.joins),
            *(("group", name, "Describe") for name in rights.watches),
        }
        assert all(acl["resource"]["patternType"] == "literal" for acl in acls)


def test_redis_has_a_login_for_each_of_its_users_and_for_its_own_keys_only(cluster: Cluster) -> None:
    logins = cluster.of("ExternalSecret")["redis-logins"]["spec"]
    (container,) = cluster.of("Deployment")["redis"]["spec"]["template"]["spec"]["containers"]
    (mount,) = container["volumeMounts"]
    assert container["args"][-1] == f"{mount['mountPath']}/{redis.LOGINS}"
    users = {process for process in services.processes() if "BARAZA_REDIS_USER" in _environment(cluster, process)}
    rules = logins["target"]["template"]["data"][redis.LOGINS].splitlines()
    assert rules[0] == "user default off"
    assert {rule.split()[1] for rule in rules[1:]} == users == {one["secretKey"] for one in logins["data"]}
    for rule in rules[1:]:
        user = rule.split()[1]
        assert rule == f"user {user} on #{{{{ .{user} | sha256sum }}}} ~{contract.redis_keys()[user]} {redis.COMMANDS}"
    for process in services.processes():
        policy = cluster.of("NetworkPolicy")[process]["spec"]["egress"]
        peers = [peer for edge in policy for peer in edge["to"]]
        selector = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "redis"}}}
        assert (selector in peers) == (process in users), process
    (entry,) = cluster.of("NetworkPolicy")["redis"]["spec"]["ingress"]
    assert {peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in entry["from"]} == users


def test_the_services_of_payments_have_their_keys_accounts_and_rules_as_files_of_their_pods(cluster: Cluster) -> None:
    wanted = {
        "merchant": {"PAYER_KEY", "MERCHANT_TOKEN_KEY", "GATEWAY_ACCOUNTS"},
        "notifier": {"WEBHOOK_KEY"},
        "payment": {"GATEWAY_ACCOUNTS"},
        "reconciliation": {"GATEWAY_ACCOUNTS"},
        "risk": {"RISK_RULES"},
        "members": {"PHONE_KEY"},
        "mobile-money": {"PHONE_KEY", "SHORT_CODES"},
    }
    every = set.union(*wanted.values())
    for process in services.workers():
        variables = _environment(cluster, process)
        given = {name for name in every if f"BARAZA_{name}_FILE" in variables}
        assert given == wanted.get(process, set()), process
        provided = set(_files(cluster, process))
        assert {variables[f"BARAZA_{name}_FILE"] for name in given} <= provided, process
    callers = {
        process for process in services.workers() if any("gateway-keys" in one for one in _folders(cluster, process))
    }
    assert callers == set(contract.account_callers())
    payers = {
        process for process in services.workers() if any("short-code-keys" in one for one in _folders(cluster, process))
    }
    assert payers == set(providers.payers())


def test_the_accounts_at_gateways_and_the_rules_can_be_read_by_those_who_use_them(
    cluster: Cluster, tmp_path: Path
) -> None:
    maps = cluster.of("ConfigMap")
    (accounts,) = (one["data"]["accounts.json"] for name, one in maps.items() if name.startswith("gateway-accounts-"))
    file = tmp_path / "accounts.json"
    file.write_text(accounts)
    read = gateway_accounts.read(file)
    assert {route.is_live for route in read.routes} == {True, False}
    assert all(str(account.api_key_file).startswith("/etc/baraza/gateway-keys/") for account in read.accounts)
    (rules,) = (one["data"]["rules.toml"] for name, one in maps.items() if name.startswith("risk-rules-"))
    assert risk_rules.read(rules).version


def test_the_lake_is_on_a_volume_of_one_pod_or_in_an_object_store_that_every_pod_reaches(cluster: Cluster) -> None:
    (shared,) = (one["data"] for name, one in cluster.of("ConfigMap").items() if name.startswith("baraza-"))
    deployment = cluster.of("Deployment")["reconciliation"]["spec"]
    if "://" in shared["BARAZA_LAKE_URL"]:
        (container,) = deployment["template"]["spec"]["containers"]
        (login,) = (one["secretRef"]["name"] for one in container["envFrom"] if "secretRef" in one)
        assert login in cluster.of("ExternalSecret")
        return
    assert any(shared["BARAZA_LAKE_URL"].startswith(f"{one}/") for one in _folders(cluster, "reconciliation"))
    assert (deployment["strategy"], cluster.of("ScaledObject")["reconciliation"]["spec"]["maxReplicaCount"]) == (
        {"type": "Recreate"}, 1
    )  # fmt: skip


def test_the_notifier_reaches_public_addresses_at_the_ports_of_endpoints_and_merchants_keys(cluster: Cluster) -> None:
    policies = cluster.of("NetworkPolicy")
    edges = policies["notifier"]["spec"]["egress"]
    outside = {edge["ports"][0]["port"]: edge["to"][0]["ipBlock"] for edge in edges if "ipBlock" in edge["to"][0]}
    assert set(outside) == addresses.PORTS
    refused = [network for network, _ in addresses.FORBIDDEN if isinstance(network, IPv4Network)]
    for block in outside.values():
        excepted = [IPv4Network(one) for one in block["except"]]
        assert all(any(one.subnet_of(network) for network in refused) for one in excepted)
    assert set(_peers(edges)) >= {"merchant"}
    assert "notifier" in set(_peers([{"to": each["from"]} for each in policies["merchant"]["spec"]["ingress"]]))
    url = _environment(cluster, "notifier")["BARAZA_MERCHANT_JWKS_URL"]
    assert url == "http://merchant:8080/.well-known/jwks.json"


def test_every_database_is_backed_up_where_there_are_backups(cluster: Cluster) -> None:
    backups = {one["spec"]["cluster"]["name"] for one in cluster.of("ScheduledBackup").values()}
    assert backups in (set(), set(cluster.of("Cluster")))


def test_every_pod_has_limits_and_no_further_privileges(cluster: Cluster) -> None:
    for name, pod in cluster.pods():
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True, name
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert {"cpu", "memory"} <= set(container["resources"]["limits"]), name
            assert re.search(r":v?\d[\w.]*$", container["image"]), container["image"]


def test_a_pods_grace_period_fits_the_codes_own_stop() -> None:
    from chassis.process.service import STOP_WITHIN_S

    process = next(one for one in _generator().files()["payment.yaml"] if one["kind"] == "Deployment")
    pod = process["spec"]["template"]["spec"]
    pause_s = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > pause_s + STOP_WITHIN_S


def test_every_connection_is_denied_except_those_to_pods_that_exist(cluster: Cluster) -> None:
    policies = cluster.of("NetworkPolicy")
    everything = policies["deny-everything"]["spec"]
    assert everything == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    labels = [
        one["spec"]["template"]["metadata"]["labels"]
        for kind in ("Deployment", "Job")
        for one in cluster.of(kind).values()
    ]
    labels += [one["spec"]["inheritedMetadata"]["labels"] for one in cluster.of("Cluster").values()]
    labels.append({"strimzi.io/cluster": next(iter(cluster.of("Kafka")))})
    for selector in _selectors([one["spec"] for one in policies.values()]):
        wanted = selector.get("matchLabels", {})
        assert any(wanted.items() <= one.items() for one in labels), f"no pod is {wanted}"
    for database in contract.databases():
        name = database.replace("_", "-")
        users = {process for process in services.processes() if services.database_of(process) == database}
        assert {process for process in services.processes() if _leads_to(policies[process], name)} == users


def test_no_secret_is_in_the_manifests(cluster: Cluster) -> None:
    assert not cluster.of("Secret")
    for one in cluster.manifests:
        for key, value in _leaves(one):
            if SECRETIVE.search(key) and isinstance(value, str) and key.lower().endswith("password"):
                assert value in ("password", "{{ .password }}"), (one["metadata"]["name"], key)


def _validate(one: Manifest) -> None:
    group, _, version = one["apiVersion"].rpartition("/")
    file = K8S / "schemas" / f"{one['kind'].lower()}-{group.partition('.')[0]}-{version}.json"
    if file.exists():
        jsonschema.validate(one, json.loads(file.read_text()), cls=jsonschema.Draft202012Validator)
    else:
        kubernetes_validate.validate(one, KUBERNETES, strict=True)


def _generator() -> Any:
    specification = importlib.util.spec_from_file_location("generate", K8S / "generate.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    import sys

    sys.modules["generate"] = module  # its dataclass looks up its own module
    specification.loader.exec_module(module)
    return module


def _environment(cluster: Cluster, process: str) -> dict[str, str]:
    return _of(cluster.of("Deployment")[process]["spec"]["template"]["spec"]["containers"][0]["env"])


def _of(variables: list[Mapping[str, str]]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in variables}


def _files(cluster: Cluster, process: str) -> Iterator[str]:
    """Yield the paths of the files that a process gets from secrets and from the overlay's own files."""
    pod = cluster.of("Deployment")[process]["spec"]["template"]["spec"]
    secrets = {name: [one["secretKey"] for one in each["spec"].get("data", ())]
               for name, each in cluster.of("ExternalSecret").items()}  # fmt: skip
    for volume in pod["volumes"]:
        folder = f"/etc/baraza/{volume['name']}"
        if "configMap" in volume:
            yield from (f"{folder}/{key}" for key in cluster.of("ConfigMap")[volume["configMap"]["name"]]["data"])
        elif "secret" in volume:
            items = volume["secret"].get("items")
            found = [one["path"] for one in items] if items else secrets[volume["secret"]["secretName"]]
            yield from (f"{folder}/{key}" for key in found)


def _folders(cluster: Cluster, process: str) -> list[str]:
    (container,) = cluster.of("Deployment")[process]["spec"]["template"]["spec"]["containers"]
    return [mount["mountPath"] for mount in container["volumeMounts"]]


def _peers(edges: list[Manifest]) -> Iterator[str]:
    """Yield the names of our own pods that edges of a policy lead to."""
    for edge in edges:
        for peer in edge["to"]:
            name = peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/name")
            if name is not None and "namespaceSelector" not in peer:
                yield name


def _leads_to(policy: Manifest, database: str) -> bool:
    peers = [peer for edge in policy["spec"]["egress"] for peer in edge["to"]]
    return {"podSelector": {"matchLabels": {"baraza.example/database": database}}} in peers


def _selectors(part: Any) -> Iterator[Manifest]:
    """Yield every selector of pods in our own namespace."""
    if isinstance(part, dict):
        if "podSelector" in part and "namespaceSelector" not in part:
            yield part["podSelector"]
        for value in part.values():
            yield from _selectors(value)
    elif isinstance(part, list):
        for value in part:
            yield from _selectors(value)


def _leaves(part: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(part, dict):
        for name, value in part.items():
            yield from _leaves(value, str(name))
    elif isinstance(part, list):
        for value in part:
            yield from _leaves(value, key)
    else:
        yield key, part
