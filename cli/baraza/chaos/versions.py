"""The previous version of a service, taken from the repository's history, to run instead of the present one.

A version is a service's own code, the chassis and the messages at one commit. It runs on the present database, topics
and stack, as it would after a rollback.
"""

from __future__ import annotations

import functools
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tenacity

from baraza.terminal import Refusal
from saga_tracker.definitions import DEFINITIONS
from stack.contract import TRACKER, services

CHECKOUT = Path(__file__).resolve().parents[3]
SHARED = ("chassis", "schemas")
STACK = ("stack", "services/saga-tracker")
"""The code that registers the old messages' schemas, as the old release did before it was replaced."""
REGISTER = """
import json, sys
from confluent_kafka.schema_registry import SchemaRegistryClient
from stack.registering import register
from stack.contract import subjects
with SchemaRegistryClient(json.load(sys.stdin)) as client:
    for subject in subjects():
        register(client, subject)
"""
TIMEOUT_S = 60
RETRY_S = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One service at a commit, unpacked in a folder."""

    service: str
    commit: str
    folder: Path

    @property
    def python_path(self) -> str:
        """The value of PYTHONPATH that puts it before the present version."""
        return ":".join(str(self.folder / part) for part in (f"services/{self.service}", *SHARED))

    def register(self, registry: Mapping[str, str]) -> None:
        """Register its schemas. Raises Refusal where they are incompatible with the present ones.

        The fault before this one may still affect the registry, so the registration is retried for a while.
        """
        path = ":".join(str(self.folder / part) for part in (*STACK, *SHARED))
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Refusal),
            stop=tenacity.stop_after_delay(TIMEOUT_S),
            wait=tenacity.wait_fixed(RETRY_S),
            reraise=True,
        ):
            with attempt:
                self._register(path, registry)

    def _register(self, path: str, registry: Mapping[str, str]) -> None:
        done = subprocess.run(
            (sys.executable, "-P", "-c", REGISTER), check=False, env={"PYTHONPATH": path},
            input=json.dumps(dict(registry)), capture_output=True, timeout=TIMEOUT_S, text=True,
        )  # fmt: skip
        if done.returncode:
            raise Refusal(f"The schemas of {self.commit[:12]} cannot be registered: {done.stderr.strip()[-500:]}")


@functools.cache
def with_history() -> dict[str, str]:
    """Return the services that can be rolled back, each with the commit to return to; none without a history."""
    found = {service: previous(service) for service in (*services(), TRACKER)}
    return {service: commit for service, commit in found.items() if commit is not None}


def previous(service: str) -> str | None:
    """Return the commit before the last one that changed a service; None where there is no such history.

    Nor is it a release before one of the service's sagas, which would skip the messages of that.
    """
    code = (f"services/{service}/**/*.py", *(f"{part}/**/*.py" for part in SHARED), "schemas/**/*.avsc")
    last = _git("log", "-1", "--format=%H", "--", *(f":(glob){path}" for path in code)).strip()
    before = _git("rev-parse", "--verify", "--quiet", f"{last}^").strip() if last else ""
    return before if before and _knows_sagas(service, before) else None


def _knows_sagas(service: str, commit: str) -> bool:
    """Return whether every saga in which the service takes part was defined at the commit."""
    listed = _git("ls-tree", "--name-only", f"{commit}:services/saga-tracker/saga_tracker/definitions")
    defined = {name.removesuffix(".py") for name in listed.split()}
    sagas = {saga.name for saga in DEFINITIONS.values() if service == TRACKER or service in saga.participants}
    return sagas <= defined


def unpack(service: str, commit: str, folder: Path) -> Version:
    """Write the service as it was at ``commit`` into a folder below ``folder``. Raises CalledProcessError."""
    target = folder / commit[:12] / service
    if not target.exists():
        wanted = (f"services/{service}", *SHARED, *STACK)
        archive = subprocess.run(
            ("git", "-C", str(CHECKOUT), "archive", commit, *dict.fromkeys(wanted)), check=True, capture_output=True
        ).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            # Debian 12's Python 3.11.2 does not have the filter yet; the archive is our own repository's.
            tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
            tar.extractall(target)
    return Version(service=service, commit=commit, folder=target)


def _git(*arguments: str) -> str:
    """Return the output of git; an empty text where there is no git, or no repository."""
    command = ("git", "-C", str(CHECKOUT), *arguments)
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT_S)
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""
