"""The launcher on a machine whose Python has no pip: it fetches what the lock names, or states why it cannot."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).parents[2] / "baraza"
WHEEL = f"uv-1-py3-none-manylinux_2_17_{platform.machine()}.whl"
UV = """#!/bin/sh
[ "$1" != --version ] || exit 0
mkdir -p "$UV_PROJECT_ENVIRONMENT/bin"
printf '#!/bin/sh\\necho "$@"\\n' >"$UV_PROJECT_ENVIRONMENT/bin/python"
chmod +x "$UV_PROJECT_ENVIRONMENT/bin/python"
"""
PYTHON = """#!/bin/sh
case $1 in
-c) echo "$0" ;;
-m) echo "No module named ensurepip" >&2; exit 1 ;;
*) exec {executable} "$@" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the launcher in it, and two packages' manifests; the lock is written by ``run``."""
    folder = tmp_path / "checkout"
    for member in ("", "member", "services/service"):
        (folder / member).mkdir(parents=True, exist_ok=True)
        (folder / member / "pyproject.toml").touch()
    shutil.copy(LAUNCHER, folder / "baraza")
    python = tmp_path / "bin" / "python3.11"
    python.parent.mkdir()
    python.write_text(PYTHON.format(executable=sys.executable))
    python.chmod(0o755)
    return folder


@pytest.fixture
def wheels(tmp_path: Path) -> Iterator[str]:
    """The address of a server that holds the wheel."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as wheel:
        wheel.writestr("uv-1.data/scripts/uv", UV)
    (folder / WHEEL).write_bytes(content.getvalue())

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def run(
    checkout: Path, wheels: str, digest: str = "", *, stdin: str = os.devnull, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the launcher with only the system's commands and a Python that has no pip."""
    digest = digest or hashlib.sha256((checkout.parent / "wheels" / WHEEL).read_bytes()).hexdigest()
    wheel = f'{{ url = "{wheels}/{WHEEL}", hash = "sha256:{digest}" }}'
    (checkout / "uv.lock").write_text(f'[[package]]\nname = "uv"\nversion = "1"\nwheels = [{wheel}]\n')
    environment = {"PATH": f"{checkout.parent / 'bin'}:/usr/bin:/bin", "HOME": str(checkout.parent), **variables}
    command = [str(checkout / "baraza"), "status"]
    source = os.open(stdin, os.O_RDONLY)
    try:
        return subprocess.run(
            command, env=environment, stdin=source, capture_output=True, text=True, timeout=60, check=False
        )
    finally:
        os.close(source)


def test_without_pip_the_launcher_takes_uv_out_of_the_wheel_that_the_lock_names(checkout: Path, wheels: str) -> None:
    first, second = run(checkout, wheels), run(checkout, wheels)

    assert (first.returncode, first.stdout) == (0, "-E -s -P -X utf8 -m baraza status\n"), first.stderr
    assert "Installing uv" in first.stderr
    assert (second.stdout, second.stderr) == (first.stdout, "")


@pytest.mark.parametrize(("path", "digest"), [("", "0" * 64), ("/elsewhere", "")])
def test_a_wheel_that_differs_from_the_lock_is_reported_in_one_sentence(
    checkout: Path, wheels: str, path: str, digest: str
) -> None:
    ended = run(checkout, wheels + path, digest)

    assert ended.returncode == 1
    assert "A download failed while installing uv; check the network" in ended.stderr.splitlines()[-1]
    assert not (checkout / ".baraza" / "uv" / "bin" / "uv").exists()


def test_variables_for_another_python_do_not_reach_the_one_that_creates_the_environment(
    checkout: Path, wheels: str
) -> None:
    ended = run(checkout, wheels, PYTHONHOME="/nowhere", PYTHONPATH="/nowhere")

    assert (ended.returncode, "No module named 'encodings'" in ended.stderr) == (0, False), ended.stderr


def test_a_folder_as_standard_input_is_reported_in_one_sentence(checkout: Path, wheels: str) -> None:
    ended = run(checkout, wheels, stdin=str(checkout))

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "baraza: The standard input is a folder; give a file, a pipe or nothing.\n"


def test_under_sudo_nothing_is_created_in_a_checkout_of_the_caller(checkout: Path, wheels: str) -> None:
    for name, printed in (("id", "0"), ("stat", "1000")):
        program = checkout.parent / "bin" / name
        program.write_text(f"#!/bin/sh\necho {printed}\n")
        program.chmod(0o755)
    ended = run(checkout, wheels, SUDO_UID="1000", SUDO_USER="ann")

    assert ended.returncode == 1
    assert ended.stderr == f"baraza: {checkout} belongs to ann; run this without sudo. Nothing here needs root.\n"
    assert not (checkout / ".venv").exists()
    assert not (checkout / ".baraza").exists()


def test_the_launcher_names_no_address() -> None:
    assert "://" not in LAUNCHER.read_text()
