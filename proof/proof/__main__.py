"""``python -m proof --seeds N [--first SEED] [--control NAME] [--trace] [--json]``: run schedules, or replay one."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from proof import databases
from proof.controls import CONTROLS, control
from proof.simulation import Result, simulate
from stack import from_environment, up

FOUND_A_PROBLEM = 1


def main() -> int:
    """Run the schedules; exit status 1 where one breaks a promise."""
    parser = argparse.ArgumentParser(prog="python -m proof")
    parser.add_argument("--seeds", type=int, default=100, help="how many schedules")
    parser.add_argument("--first", type=int, default=0, help="the first seed; with --seeds 1 that one is replayed")
    parser.add_argument("--control", choices=list(CONTROLS), help="take one of the protocol's rules out")
    parser.add_argument("--trace", action="store_true", help="print what happened in each schedule")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    chosen = parser.parse_args()
    results: list[Result] = []
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="baraza-proof-") as home:
        stack = up(from_environment(home=Path(home), only=("postgres",)))
        try:
            with databases.connections(stack) as connections, control(chosen.control):
                for seed in range(chosen.first, chosen.first + chosen.seeds):
                    results.append(simulate(seed, connections))
                    _tell(results[-1], traces=chosen.trace)
        finally:
            stack.down()
    figures = _figures(results, time.monotonic() - began_s)
    sys.stdout.write((json.dumps(figures) if chosen.json else json.dumps(figures, indent=2)) + "\n")
    return FOUND_A_PROBLEM if figures["violations"] else 0


def _tell(result: Result, *, traces: bool) -> None:
    lines = list(result.trace) if traces else []
    lines += [f"seed {result.seed}: {violation}" for violation in result.violations]
    if result.violations:
        lines.append(f"Replay with: python -m proof --first {result.seed} --seeds 1 --trace")
    sys.stderr.writelines(f"{line}\n" for line in lines)


def _figures(results: list[Result], took_s: float) -> dict[str, object]:
    faults: Counter[str] = Counter()
    states: Counter[str] = Counter()
    for result in results:
        faults += result.faults
        states += result.states
    return {
        "schedules": len(results),
        "orders": sum(result.orders for result in results),
        "virtual_s": round(sum(result.virtual_s for result in results)),
        "schedules_per_s": round(len(results) / took_s, 1),
        "states": dict(states),
        "faults": dict(faults),
        "violations": {result.seed: result.violations for result in results if result.violations},
    }


if __name__ == "__main__":
    raise SystemExit(main())
