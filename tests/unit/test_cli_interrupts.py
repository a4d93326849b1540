"""An interrupt ends a command without a traceback, whenever it comes."""

from __future__ import annotations

import signal
import subprocess
import sys

DURING_AN_IMPORT = """
import os, runpy, signal, sys

class Interrupting:
    def find_spec(self, name, *_):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.argv = ["baraza", "--help"]
runpy.run_module("baraza", run_name="__main__")
"""
WHILE_IT_CLEANS_UP = """
import os, signal
from baraza import interrupts

interrupts.install()
try:
    os.kill(os.getpid(), signal.SIGTERM)
finally:
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    print("goes on")
"""
AFTER_ITS_END = """
import atexit, os, runpy, signal, sys

sys.argv = ["baraza", "saga", "show", "order"]
atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
runpy.run_module("baraza", run_name="__main__")
"""


def ended(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )


def test_an_interrupt_while_modules_are_imported_ends_the_process() -> None:
    found = ended(DURING_AN_IMPORT)

    assert (found.returncode, found.stdout, found.stderr) == (-signal.SIGINT, "", "")


def test_the_third_signal_ends_the_process_at_once() -> None:
    found = ended(WHILE_IT_CLEANS_UP)

    assert (found.returncode, found.stdout) == (128 + signal.SIGINT, "")
    assert found.stderr == "Already stopping; taking down what it started. Please wait.\n"


def test_an_interrupt_after_the_end_prints_nothing() -> None:
    found = ended(AFTER_ITS_END)

    assert found.returncode == -signal.SIGINT
    assert found.stdout.startswith("order")
    assert found.stderr == ""
