"""Judges that are not ours: stripe-mock, and the models of Adyen's own package. They judge the shape of requests alone.

Both are fetched as their locks say and kept in the stack's cache, as programs of Go are.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import httpx

from stack import gotools
from stack.gotools import GoProgram
from stack.ports import LOOPBACK
from support.waiting import until

JUDGES = Path(__file__).resolve().parents[1] / "judges"
STRIPE_MOCK = GoProgram(name="stripe-mock", package="github.com/stripe/stripe-mock", module=JUDGES / "stripe")
ADYEN = JUDGES / "adyen"
INSTALL_WITHIN_S = 300


@contextmanager
def stripe_mock(cache: Path, port: int) -> Iterator[str]:
    """Run stripe-mock on a port, and yield its address."""
    binary = gotools.build(STRIPE_MOCK, cache)
    with subprocess.Popen(
        (str(binary), "-http-addr", f"{LOOPBACK}:{port}"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        url = f"http://{LOOPBACK}:{port}"
        try:
            until(lambda: _answers(url), "stripe-mock answers")
            yield url
        finally:
            process.terminate()


def adyens_flaws(cache: Path, requests: Sequence[tuple[str, object]]) -> list[list[str]]:
    """Return the flaws of each request, a model's name and a body, by Adyen's own models."""
    folder = _installed(cache)
    listed = json.dumps([{"model": model, "body": body} for model, body in requests])
    done = subprocess.run(
        ("node", str(ADYEN / "judge.cjs"), str(folder)), input=listed, text=True, capture_output=True, check=True
    )
    found: list[list[str]] = json.loads(done.stdout)
    return found


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v1/charges").status_code == 401
    except httpx.TransportError:
        return False


def _installed(cache: Path) -> Path:
    """Return the folder of Adyen's package as its lock says, installed already or now. Its scripts are not run."""
    lock = (ADYEN / "package-lock.json").read_bytes()
    target = cache / f"adyen-{sha256(lock).hexdigest()[:12]}"
    if not (target / "node_modules").exists():
        draft = target.with_suffix(".new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(ADYEN / name, draft / name)
        command = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
        subprocess.run(command, cwd=draft, check=True, capture_output=True, timeout=INSTALL_WITHIN_S)
        shutil.rmtree(target, ignore_errors=True)
        draft.replace(target)
    return target
