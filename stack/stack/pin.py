"""``python -m stack.pin``: write ``downloads.json``, the exact files of the Java components.

A developer runs it to change a version. The resolution takes ten seconds and a hundred requests; the pinned list takes
none, and only reviewed files are downloaded.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from jgo.maven import Artifact, MavenContext

from stack.downloads import PINNED, digest

KAFKA = "org.apache.kafka:kafka_2.13:4.3.1"
LOGGING = ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.4")
"""Kafka's manifest leaves the logger's binding to its packagers. It is added without its own dependencies, since its
bill of materials would bring an older kafka-clients."""
ZIPKIN = ("io.zipkin", "zipkin-server", "3.6.1")
REGISTRY = ("io.apicurio", "apicurio-registry-app", "3.3.3")


def main() -> int:
    """Resolve, fetch and hash everything; replace the list."""
    with tempfile.TemporaryDirectory() as cache:
        context = MavenContext(repo_cache=Path(cache))
        root, nodes = context.resolver.get_dependency_list([context.create_dependency(KAFKA)])
        group, name, version = LOGGING
        kafka = [node.dep.artifact for node in (*root.children, *nodes)]
        kafka.append(context.project(group, name).at_version(version).artifact())
        group, name, version = REGISTRY
        registry = context.project(group, name).at_version(version).artifact("all", "tar.gz")
        group, name, version = ZIPKIN
        zipkin = context.project(group, name).at_version(version).artifact("slim", "jar")
        pinned = {
            "kafka": sorted((_pin(artifact) for artifact in kafka), key=lambda pin: str(pin["path"])),
            "registry": [_pin(registry)],
            "zipkin": [_pin(zipkin)],
        }
    PINNED.write_text(json.dumps(pinned, indent=1) + "\n")
    return 0


def _pin(artifact: Artifact) -> dict[str, str | int]:
    content = artifact.resolve().read_bytes()
    path = artifact.component.path_prefix / artifact.filename
    return {"path": path.as_posix(), "size": len(content), "sha256": digest(content)}


if __name__ == "__main__":
    raise SystemExit(main())
