"""Who goes first where the processors are full (decision 26)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from stack import contract, identity, providers, services
from stack.home import Home, State


def test_a_process_is_as_nice_as_it_is_told() -> None:
    command = identity.wrapped((sys.executable, "-c", "import os; print(os.nice(0))"), niceness=7)

    assert int(subprocess.check_output(command)) == os.nice(0) + 7


def test_whom_people_wait_for_and_who_watches_go_before_those_who_own_steps_alone(tmp_path: Path) -> None:
    home, state = Home(tmp_path), State(ports=defaultdict(int))
    home.prepare()
    names = (*services.workers(), *providers.SIMULATORS)
    niceness = {name: services.component(home, state, name, name).niceness for name in names}

    last = {name for name, value in niceness.items() if value}
    assert last == set(contract.services()) - {"checkout", "merchant"}
    assert set(niceness.values()) == {0, services.STEPS_NICENESS}
