"""The stack's Redis: it writes no snapshot while it runs, and one when it is stopped."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis as client
import yaml

from stack import contract, ports, redis
from stack.home import Home
from support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
YEAR_S = 365 * 24 * 3600


@contextmanager
def running(home: Home, port: int) -> Iterator[client.Redis]:
    """Start the server as the stack does, and stop it as supervisord does."""
    component = redis.component(home, port)
    process = subprocess.Popen(component.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(component.is_ready, "Redis answers")
        password = home.password(redis.secret_of(contract.DEPLOY))
        with client.Redis(port=port, username=contract.DEPLOY, password=password) as connected:
            yield connected
    finally:
        process.send_signal(component.stop_signal)
        process.wait(30)


def test_a_snapshot_is_written_at_the_stop_and_never_while_it_runs(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    home.folder(redis.NAME).mkdir()
    redis.configure(home)
    port = ports.choose([redis.NAME], {}, {})[redis.NAME]
    with running(home, port) as server:
        server.set("kept", "1")
        points = re.findall(r"(\d+) \d+", str(server.config_get("save")["save"]))
        assert points, "without any point Redis writes nothing at a stop either"
        assert min(int(seconds) for seconds in points) > YEAR_S
        assert server.config_get("appendonly")["appendonly"] == "no"
    with running(home, port) as server:
        assert server.get("kept") == b"1"


@pytest.mark.parametrize("volume", ["compose", "kubernetes"])
def test_in_containers_it_writes_while_it_runs_as_little(volume: str) -> None:
    """Compose has a volume for the snapshot at the stop; in Kubernetes there is none, so nothing is written at all."""
    options = redis.options()
    save = options[options.index("--save") + 1 : options.index("--save") + 3]
    if volume == "compose":
        command = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["redis"]["command"]
        assert tuple(command[command.index("--save") + 1 : command.index("--save") + 3]) == save
    else:
        deployment = next(yaml.safe_load_all((ROOT / "k8s/base/redis.yaml").read_text()))
        args = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
        assert args[args.index("--save") + 1] == ""
        assert "persistentVolumeClaim" not in str(deployment)
