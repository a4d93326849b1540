"""The command line as people run it: a process, its exit status, and what it says on which stream."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pytest
import typer
from typer.models import OptionInfo

from baraza import main, terminal
from baraza.commands import events, options, orders, returns
from saga_tracker.definitions import DEFINITIONS
from support.command_line import Case, CommandLine


def case(*arguments: str, home: Path) -> Case:
    """Return a call in a home, without a terminal, whose process has the command line loaded."""
    environment = {"PATH": os.defpath, "HOME": str(home.parent), "BARAZA_HOME": str(home), "COLUMNS": "120"}
    return Case(arguments=arguments, environment={**environment, "NO_COLOR": "1", "TERM": "dumb"})


def baraza(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in an empty home, without a terminal."""
    environment = {**os.environ, "BARAZA_HOME": str(home), "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "120"}
    command = [sys.executable, "-P", "-m", "baraza", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


def test_help_lists_every_command(tmp_path: Path) -> None:
    ended = baraza("--help", home=tmp_path)

    assert ended.returncode == 0
    commands = (
        "up down status rotate demo timeline redrive letters audit topics test orders returns sagas saga events "
        "catalogue customers schemas members deposits withdrawals loans dividends money statement day"
    )
    assert all(f" {name} " in ended.stdout for name in commands.split())


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    heavy = "pandas pyarrow faust confluent_kafka httpx psycopg sqlalchemy stack fastapi numpy"
    program = (
        "import sys\nsys.argv = ['baraza', '--help']\n"
        "import baraza.main\n"
        "try:\n    baraza.main.main()\nexcept SystemExit:\n    pass\n"
        f"sys.exit(' '.join(set('{heavy}'.split()).intersection(sys.modules)) or 0)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("timeline", "01JCZ3K8T0ABCDEFGHJKMNPQRS"),
        ("sagas", "list"),
        ("sagas", "cancel", "01JCZ3K8T0ABCDEFGHJKMNPQRS", "--reason", "asked for"),
        ("sagas", "review"),
        ("sagas", "compensate", "01JCZ3K8T0ABCDEFGHJKMNPQRS", "--reason", "asked for"),
        ("redrive", "--plan", "step=reserve_inventory"),
        ("redrive", "--apply", "01JCZ3K8T0ABCDEFGHJKMNPQRS", "--reason", "fixed"),
        ("letters", "list"),
        ("orders", "show", "01JCZ3K8T0ABCDEFGHJKMNPQRS"),
        ("orders", "cancel", "01JCZ3K8T0ABCDEFGHJKMNPQRS"),
        ("returns", "show", "01JCZ3K8T0ABCDEFGHJKMNPQRS"),
        ("returns", "cancel", "01JCZ3K8T0ABCDEFGHJKMNPQRS"),
        ("events", "tail", "saga.events"),
        ("money", "in-doubt"),
        ("withdrawals", "request", "00123", "--amount", "1500"),
        ("topics",),
        ("audit",),
    ],
)
def test_without_a_stack_one_sentence_states_what_to_run(
    command_line: CommandLine, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    ended = command_line.run(case(*arguments, home=tmp_path / "nothing"))

    assert ended.status == 1
    assert ended.stdout == ""
    assert ended.stderr == f"baraza: No stack is running in {tmp_path / 'nothing'}. Run ./baraza up.\n"
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("demo", "--ordres", "5"), "--orders"),
        (("demo", "--orders", "0"), "greater than or equal to 1"),
        (("demo", "--orders", "many"), "--orders"),
        (("up", "--replicas", "payment"), "write it like payment=2"),
        (("up", "--replicas", "pay=2"), "pay cannot have replicas"),
        (("up", "--replicas", "payment=0"), "choose 1 to 16"),
        (("orders", "submit", "nowhere.json", "--idempotency-key", "a b"), "expected 1 to 128 printable"),
        (("orders", "submit", "nowhere.json", "--idempotency-key", ""), "expected 1 to 128 printable"),
        (("sagas", "list", "--state", "LOST"), "choose one of PENDING"),
        (("sagas", "cancel", "01JCZ3K8T0ABCDEFGHJKMNPQRS", "--reason", " "), "--reason is empty"),
        (("sagas", "annotate", "01JCZ3K8T0ABCDEFGHJKMNPQRS", "--reason", " "), "--reason is empty"),
        (
            ("sagas", "resolve", "01JCZ3K8T0ABCDEFGHJKMNPQRS", "--as", "maybe", "--reason", "seen"),
            "choose one of compensated, confirmed",
        ),
        (("up", "--replicas", "payment=2", "--replicas", "payment=3"), "--replicas gives payment twice"),
        (("redrive", "--apply", "p", "--reason", "r", "--compensate"), "--compensate belongs to --plan"),
        (
            ("explore", "--large", "--steps", "2", "--control", "no-fence"),
            "No large model has --steps 2; choose one of",
        ),
        (("redrive", "--plan", "group=1", "--plan", "all"), "Option '--plan' is given 2 times; give it once."),
        (
            ("catalogue", "receive", "tea", "--units", "5", "--units", "50", "--reason", "r"),
            "Option '--units' is given",
        ),
        (("chaos", "--seed", "1", "--seed", "1", "--rate", "1"), "Option '--seed' is given 2 times"),
        (("catalogue", "stock", ".."), "The SKU '..' cannot stand in a path"),
        (("catalogue", "stock", "a\u200bb"), "Character 2 (U+200B) cannot be seen; remove it"),
        (("orders", "submit", "/dev/zero"), "/dev/zero has more than 1048576 bytes"),
        (("orders", "replay", "/dev/null"), "/dev/null has no order; expected one JSON object a line"),
        (("catalogue", "load", "/dev/null"), "/dev/null is empty; its first line must be"),
        (("redrive",), "one of --plan SELECTION, --apply PLAN or --show PLAN"),
        (("redrive", "--apply", "01JCZ3K8T0ABCDEFGHJKMNPQRS"), "--reason is empty"),
        (("redrive", "--plan", ""), "The selection is empty"),
        (("redrive", "--plan", "everything"), "'everything' selects nothing"),
        (("redrive", "--plan", "after=noon"), "after=noon: Not a time as RFC 3339 writes it"),
        (("redrive", "--plan", "after=2026-11-21T10:00"), "no zone; write 2026-11-21T10:00:00Z for UTC"),
        (("redrive", "--plan", "before=2026-11-21"), "write it like 2026-11-21T00:00:00Z."),
        (("redrive", "--plan", "before=2026-11-21+02:00Z"), "Not a time as RFC 3339 writes it"),
        (("reconcile", "inventory", "--since", "2026-11-21"), "write it like 2026-11-21T00:00:00Z."),
        (("reconcile", "inventory", "--since", "2026-11-21+02:00Z"), "Not a time as RFC 3339 writes it"),
        (("reconcile", "inventory", "--since", "2026-11-21T10:00"), "no zone; write 2026-11-21T10:00:00Z for UTC"),
        (("redrive", "--plan", "step=a step=b"), "step is given twice"),
        (("orders", "show", "../../etc/passwd"), "is not an order's id"),
        (("returns", "show", "../../etc/passwd"), "is not a return's id"),
        (("returns", "request", "01", "/dev/zero"), "expected one body of POST /v1/orders/01/returns"),
        (("orders", "submit", "nowhere.json"), "nowhere.json cannot be read: no such file or directory"),
        (("orders", "replay", "nowhere.jsonl"), "nowhere.jsonl cannot be read: no such file or directory"),
        (("catalogue", "load", "nowhere.csv"), "nowhere.csv cannot be read: no such file or directory"),
        (("customers", "load", "nowhere.csv"), "nowhere.csv cannot be read: no such file or directory"),
        (("saga", "show", "oder"), "No saga is called 'oder'; known: "),
        (("saga", "new", "Order"), "'Order' is no name for a saga; write words of small letters"),
        (("saga", "new", "order"), "The name order is taken: there is a saga order"),
        (("up", "--sagas", "oder"), "There is no saga 'oder'; known: order"),
    ],
)
def test_wrong_usage_ends_with_status_2(
    command_line: CommandLine, tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    ended = command_line.run(case(*arguments, home=tmp_path))

    assert ended.status == 2
    assert ended.stdout == ""
    assert expected in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr


def test_a_sagas_definition_is_shown_as_json(tmp_path: Path) -> None:
    shown = json.loads(baraza("saga", "show", "order", "--json", home=tmp_path).stdout)

    definition = DEFINITIONS[("order", shown["version"])]
    assert [step["name"] for step in shown["steps"]] == [step.name for step in definition.steps]


def test_a_sagas_diagram_names_every_step_and_every_message(tmp_path: Path) -> None:
    diagram = baraza("saga", "show", "order", "--mermaid", home=tmp_path).stdout

    assert diagram.startswith("flowchart ")
    for step in DEFINITIONS[("order", 1)].steps:
        assert step.name in diagram
        assert step.succeeds_with.__name__ in diagram


def numbers(app: typer.Typer) -> Iterator[tuple[str, type, OptionInfo]]:
    """Yield every option of the command line that is a number: its name, its type and what is declared of it."""
    for command in app.registered_commands:
        assert command.callback is not None
        for hint in get_type_hints(command.callback, include_extras=True).values():
            declared = [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, OptionInfo)]
            kind = next(
                (each for each in (int, float) if declared and re.search(rf"\b{each.__name__}\b", str(hint))), None
            )
            if kind is not None:
                yield f"{command.callback.__name__} {declared[0].param_decls}", kind, declared[0]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from numbers(group.typer_instance)


def test_every_number_on_the_command_line_is_finite_and_has_bounds() -> None:
    found = list(numbers(main.app))

    assert len(found) > 20
    for name, kind, option in found:
        assert None not in (option.min, option.max), name
        assert kind is int or option.callback is options.finite, name


def test_an_id_in_a_table_is_never_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", written := Terminal())
    monkeypatch.setenv("COLUMNS", "80")
    row = ("01JCZ3K8T0ABCDEFGHJKMNPQRS", "CANCELLED_COMPENSATED", "reserve_inventory", "customer-0000000001",
           "2026-11-21T10:00:00.000000Z", "The card issuer declined.")  # fmt: skip
    terminal.put_table(("saga", "state", "step", "subject", "started", "reason"), [row])
    terminal.put_table(
        ("at", "operator", "act", "saga or plan", "reason"),
        [("2026-11-21T10:00:00.000000Z", "an operator", "REDRIVE", row[0], "x " * 80)],
    )

    assert written.getvalue().count(row[0]) == 2


@pytest.mark.parametrize(
    ("kind", "milliseconds", "shown"),
    [
        (1, 1_764_000_000_123, "2025-11-24T16:00:00.123000+00:00"),
        (2, -1, "1969-12-31T23:59:59.999000+00:00"),
        (1, -(10**15), None),
        (1, 2**63 - 1, None),
        (0, -1, None),
    ],
)
def test_a_messages_time_may_be_any_number(kind: int, milliseconds: int, shown: str | None) -> None:
    assert events.published_at(kind, milliseconds) == shown


def test_generated_code_is_checked(tmp_path: Path) -> None:
    assert baraza("schemas", "check", home=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("numbers", "status"),
    [
        ((signal.SIGTERM,), 143),
        ((signal.SIGHUP,), 129),
        ((signal.SIGINT,), 130),
        ((signal.SIGINT, signal.SIGINT), 130),
        ((signal.SIGTERM, signal.SIGINT), 143),
    ],
)
def test_a_signal_ends_a_command_in_order_and_a_second_one_does_not_disturb_it(
    numbers: tuple[signal.Signals, ...], status: int
) -> None:
    program = (
        "import signal, sys\nfrom baraza import interrupts\ninterrupts.install()\n"
        f"first, *more = {[int(number) for number in numbers]}\n"
        "try:\n    signal.raise_signal(first)\n"
        "except KeyboardInterrupt:\n    sys.exit(130)\n"
        "finally:\n    [signal.raise_signal(number) for number in more]\n    print('cleaned up')"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert (ended.returncode, ended.stdout) == (status, "cleaned up\n")


def test_an_order_shows_amounts_in_its_currency_and_no_charge_once_it_is_cancelled() -> None:
    order = {
        "order_id": "01", "state": "CONFIRMED", "message": "m", "customer_id": "c1", "submitted_at": "t",
        "currency": "JPY", "points_to_burn": 0, "total_minor": 1500, "payable_minor": 1500,
        "lines": [{"sku": "tea", "quantity": 1, "unit_price_minor": 1500}],
    }  # fmt: skip
    shown = "\n".join(orders._description(order))
    assert "JPY 1,500 of JPY 1,500" in shown
    assert "tea  JPY 1,500" in shown
    cancelled = "\n".join(orders._description(order | {"state": "CANCELLED_COMPENSATED"}))
    assert "payable     nothing; the order was for JPY 1,500" in cancelled


def test_a_return_shows_what_arrived_and_what_comes_back_for_it() -> None:
    found = {
        "return_id": "02", "order_id": "01", "state": "ARRIVED", "message": "m", "customer_id": "c1",
        "requested_at": "t", "currency": "USD", "refund_minor": 100, "points": 5, "reason": "too small",
        "lines": [{"sku": "tea", "quantity": 2, "unit_price_minor": 60}],
        "received": [{"sku": "tea", "good": 1, "damaged": 1}],
    }  # fmt: skip
    shown = "\n".join(returns._description(found))
    assert "refund      USD 1.00 and 5 points" in shown
    assert "2 × tea  USD 0.60  arrived: 1 good, 1 damaged" in shown
    failed = found | {
        "state": "FAILED", "failure_cause": "REJECTED", "failure_reason": "outside_window", "received": None,
        "refund_minor": 0, "points": 0,
    }  # fmt: skip
    shown = "\n".join(returns._description(failed))
    assert "failed      REJECTED: outside_window" in shown
    assert "refund" not in shown


def test_a_command_that_is_shown_can_be_pasted(tmp_path: Path) -> None:
    shown = options.command("restore", "inventory", "my é.dump", home=tmp_path / "a home")
    assert shlex.split(shown) == ["./baraza", "restore", "inventory", "my é.dump", "--home", str(tmp_path / "a home")]
    assert options.command("status", home=None) == "./baraza status"


def test_a_file_that_begins_with_a_dash_is_shown_as_a_path() -> None:
    assert options.as_argument(Path("-weird.json")) == "./-weird.json"
    assert [options.as_argument(Path(name)) for name in ("-", "a.json", "/-x")] == ["-", "a.json", "/-x"]


def test_an_order_id_means_the_same_in_small_letters() -> None:
    assert options.order_id("01jcz3k8t0abcdefghjkmnpqrs") == "01JCZ3K8T0ABCDEFGHJKMNPQRS"
    assert options.order_id("saga-1") == "saga-1"
