"""The same orders twice: a repeated command never makes another order, and says how to repeat it safely."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from support.command_line import Case, CommandLine, Ended, Stream
from support.elsewhere import Answer, Call, Elsewhere, answering

SAGA = "01JCZ3K8T0ABCDEFGHJKMNPQRS"
ORDERS = '{"customer_id": "c1"}\n{"customer_id": "c1"}\n\n{"customer_id": "c2", "idempotency_key": "mine"}\n'


class Checkout:
    """A checkout that takes each key once; ``fails_after`` calls it refuses the rest, without a retry."""

    def __init__(self, *, fails_after: int | None = None) -> None:
        self.keys: dict[str, str] = {}
        self.failing = fails_after

    def __call__(self, call: Call) -> Answer:
        if call.request == "POST /checkout/v1/orders":
            status, order = self._take(call.headers["idempotency-key"])
            return Answer(status=status, content=json.dumps(order).encode())
        if call.request == "POST /checkout/v1/orders/01/returns":
            status, order = self._take(call.headers["idempotency-key"])
            return Answer(status=status, content=json.dumps(order | {"return_id": order["order_id"]}).encode())
        if call.request != "POST /checkout/v1/orders/bulk":
            return Answer(status=404)
        if self.failing is not None and self.failing <= 0:
            return Answer(status=403, content=b'{"detail": "not any more"}')
        self.failing = None if self.failing is None else self.failing - 1
        taken = [self._take(each["idempotency_key"]) for each in call.body]
        return Answer(content=json.dumps({"results": [{"status": s, "order": o} for s, o in taken]}).encode())

    def _take(self, key: str) -> tuple[int, dict[str, str]]:
        known = key in self.keys
        order_id = self.keys.setdefault(key, f"order-{len(self.keys)}")
        return 200 if known else 202, {"order_id": order_id, "state": "PENDING", "message": "Received."}


def run(
    command_line: CommandLine,
    stack: Elsewhere,
    folder: Path,
    *arguments: str,
    content: str = "",
    stdout: Stream = Stream.FILE,
) -> Ended:
    variables = {"PATH": os.defpath, "HOME": str(folder), "NO_COLOR": "1", "BARAZA_PLACES": stack.file(folder)}
    return command_line.run(Case(arguments=arguments, environment=variables, content=content, stdout=stdout))


def test_a_file_without_keys_that_is_replayed_again_changes_nothing(command_line: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_text(ORDERS)
    with answering(checkout := Checkout()) as stack:
        first, second = (run(command_line, stack, tmp_path, "orders", "replay", str(file)) for _ in range(2))

    assert "3 accepted, 0 known already, 0 refused" in first.stderr
    assert "0 accepted, 3 known already, 0 refused" in second.stderr
    assert len(checkout.keys) == 3
    assert "mine" in checkout.keys


def test_a_file_that_has_grown_adds_only_what_is_new(command_line: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_text(ORDERS.rstrip("\n"))
    with answering(Checkout()) as stack:
        run(command_line, stack, tmp_path, "orders", "replay", str(file))
        file.write_text(ORDERS + '{"customer_id": "c3"}\r\n')
        again = run(command_line, stack, tmp_path, "orders", "replay", str(file))

    assert "1 accepted, 3 known already, 0 refused" in again.stderr


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "fifo"])
def test_a_pipe_is_read_as_a_file_is(command_line: CommandLine, tmp_path: Path, name: str) -> None:
    with answering(Checkout()) as stack, piped(tmp_path, name, ORDERS) as path:
        ended = run(command_line, stack, tmp_path, "orders", "replay", path, content=ORDERS)

    assert ended.status == 0, ended
    assert "3 accepted, 0 known already, 0 refused" in ended.stderr


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "fifo"])
@pytest.mark.parametrize(
    ("noun", "text"),
    [
        ("catalogue", "sku,name,price_minor,currency,stock\ntea,Tea,1,USD,1\n"),
        ("customers", "customer_id,points\nc1,7\n"),
    ],
)
def test_a_table_is_loaded_from_a_pipe(
    command_line: CommandLine, tmp_path: Path, name: str, noun: str, text: str
) -> None:
    known = Answer(content=b'{"levels": [], "accounts": []}')
    with answering(lambda _: known) as stack, piped(tmp_path, name, text) as path:
        ended = run(command_line, stack, tmp_path, noun, "load", path, content=text)

    assert ended.status == 0, ended
    assert "Loaded 1 " in ended.stderr
    assert any(call.request.startswith("PUT") for call in stack.calls)


@pytest.mark.parametrize("opened", [10, 12])
def test_a_file_that_states_other_stock_than_is_known_says_how_to_enter_it(
    command_line: CommandLine, tmp_path: Path, opened: int
) -> None:
    level = {"sku": "tea", "opened": opened, "received": opened, "on_hand": 2}
    file = tmp_path / "products.csv"
    file.write_text("sku,name,price_minor,currency,stock\ntea,Tea,1,USD,10\n")
    with answering(lambda _: Answer(content=json.dumps({"levels": [level]}).encode())) as stack:
        ended = run(command_line, stack, tmp_path, "catalogue", "load", str(file))

    assert [call.request.rpartition("/")[2] for call in stack.calls] == ["openings", "catalogue"]
    assert ended.status == (opened != 10), ended
    if ended.status:
        assert "tea: opened with 12, the file has 10, 2 are on hand" in ended.stderr
        assert "./baraza catalogue receive, count or correct" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "path", "sent"),
    [
        (
            ("catalogue", "receive", "tea", "--units", "5"),
            "inventory/v1/stock",
            {"sku": "tea", "kind": "received", "units": 5},
        ),
        (
            ("catalogue", "correct", "tea", "--units", "-3"),
            "inventory/v1/stock",
            {"sku": "tea", "kind": "corrected", "units": -3},
        ),
        (
            ("catalogue", "count", "tea", "--units", "9", "--expected", "10"),
            "inventory/v1/stock",
            {"sku": "tea", "kind": "counted", "units": 9, "expected": 10},
        ),
        (
            ("customers", "grant", "ann", "--points", "5"),
            "loyalty/v1/accounts",
            {"customer_id": "ann", "kind": "granted", "points": 5},
        ),
        (
            ("customers", "correct", "ann", "--points", "-5"),
            "loyalty/v1/accounts",
            {"customer_id": "ann", "kind": "corrected", "points": -5},
        ),
    ],
)
def test_a_movement_is_sent_under_a_key_that_is_shown(
    command_line: CommandLine, tmp_path: Path, arguments: tuple[str, ...], path: str, sent: dict[str, object]
) -> None:
    level = {"sku": "tea", "on_hand": 7, "received": 9}
    account = {"customer_id": "ann", "balance": 7, "granted": 9}
    answer = Answer(content=json.dumps({"levels": [level], "accounts": [account]}).encode())
    with answering(lambda _: answer) as stack:
        ended = run(command_line, stack, tmp_path, *arguments, "--reason", "asked for")

    assert (ended.status, "7" in ended.stdout, len(stack.calls)) == (0, True, 1), ended
    (call,) = stack.calls
    assert (call.request, call.body) == (f"POST /{path}/movements", [{**sent, "reason": "asked for"}])
    assert f"--idempotency-key {call.headers['idempotency-key']}" in ended.stderr


def test_a_flaw_in_a_pipe_is_named_as_the_person_named_the_pipe(command_line: CommandLine, tmp_path: Path) -> None:
    with answering(Checkout()) as stack, piped(tmp_path, "fifo", ORDERS + "{\n") as path:
        ended = run(command_line, stack, tmp_path, "orders", "replay", path)

    assert ended.status == 2
    assert ended.stderr.startswith(f"baraza: {path}, line 5, column")
    assert stack.calls == []


@contextmanager
def piped(folder: Path, name: str, text: str) -> Iterator[str]:
    """Yield a path that is read once: a pipe's, or what is stdin's in the case."""
    if name != "fifo":
        yield name
        return
    path = folder / "fifo"
    os.mkfifo(path)
    writer = Thread(target=path.write_text, args=(text,))
    writer.start()
    yield str(path)
    writer.join()


def test_an_interrupted_replay_reports_how_far_it_came_and_how_to_go_on(
    command_line: CommandLine, tmp_path: Path
) -> None:
    file = tmp_path / "my orders.jsonl"
    file.write_text("".join(f'{{"customer_id": "c{number}"}}\n' for number in range(200)))
    with answering(Checkout(fails_after=2)) as stack:
        ended = run(command_line, stack, tmp_path, "orders", "replay", str(file))

    assert ended.status == 1
    assert "100 accepted, 0 known already, 0 refused" in ended.stderr
    assert "Interrupted after 100 of 200" in ended.stderr
    assert f"./baraza orders replay {shlex.quote(str(file))}\n" in ended.stderr


def test_submit_shows_the_key_that_it_chose(command_line: CommandLine, tmp_path: Path) -> None:
    with answering(checkout := Checkout()) as stack:
        ended = run(command_line, stack, tmp_path, "orders", "submit", "-", content='{"customer_id": "c1"}')

    (key,) = checkout.keys
    assert f"Idempotency key: {key}\n" in ended.stderr


@pytest.mark.parametrize("words", [("orders", "submit"), ("returns", "request", "01")])
@pytest.mark.parametrize("status", [0, 408, 500, 502, 503, 200])
def test_an_unknown_outcome_names_the_key_and_the_command_that_repeats_it(
    command_line: CommandLine, tmp_path: Path, status: int, words: tuple[str, ...]
) -> None:
    file = tmp_path / "an order.json"
    file.write_text('{"customer_id": "c1"}')
    with answering(lambda _: Answer(status=status, content=b"<html>")) as stack:
        ended = run(command_line, stack, tmp_path, *words, str(file))
        assert ended.status == 1, ended
        (call,) = stack.calls
        key = call.headers["idempotency-key"]
        (repeated,) = re.findall(r"under the key (\S+): \./baraza (.*)", ended.stderr)
        assert repeated[0] == key
        stack.answer = checkout = Checkout()
        again = run(command_line, stack, tmp_path, *shlex.split(repeated[1]))

    assert again.status == 0, again
    assert list(checkout.keys) == [key]


def test_a_refusal_is_an_outcome(command_line: CommandLine, tmp_path: Path) -> None:
    with answering(lambda _: Answer(status=422, content=b'{"detail": "No."}')) as stack:
        ended = run(command_line, stack, tmp_path, "orders", "submit", "-", content="{}")

    assert ended.stderr.endswith("baraza: checkout refused: No.\n")


def test_two_keys_for_one_order_are_refused(command_line: CommandLine, tmp_path: Path) -> None:
    with answering(Checkout()) as stack:
        content = '{"idempotency_key": "a"}'
        ended = run(command_line, stack, tmp_path, "orders", "submit", "-", "--idempotency-key", "b", content=content)

    assert ended.status == 2, ended
    assert stack.calls == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"currency": "USD", "currency": "EUR"}', 'The member "currency" is given twice; give each member once.'),
        ('{"points_to_burn": ' + "9" * 5_000 + "}", "A number has 5000 digits; no field takes more than 400."),
        ('{"a": 1,}', "- is not JSON: line 1, column "),
        ("", "- is not JSON: line 1, column 1: Expecting value; expected one body of POST /v1/orders."),
        ("\udce9", "- is not UTF-8 at byte 0; save it as UTF-8."),
        ("[" * 100_000, "- is nested too deeply; expected one body of POST /v1/orders."),
    ],
)
def test_a_flaw_in_an_order_is_named(command_line: CommandLine, tmp_path: Path, content: str, expected: str) -> None:
    with answering(Checkout()) as stack:
        ended = run(command_line, stack, tmp_path, "orders", "submit", "-", content=content)

    assert ended.status == 2, ended
    assert expected in ended.stderr
    assert stack.calls == []


def test_a_byte_order_mark_before_an_order_is_skipped(command_line: CommandLine, tmp_path: Path) -> None:
    with answering(Checkout()) as stack:
        ended = run(command_line, stack, tmp_path, "orders", "submit", "-", content='\ufeff{"customer_id": "c1"}')

    assert ended.status == 0, ended
    assert [call.body for call in stack.calls] == [{"customer_id": "c1"}]


def test_no_price_is_live_whose_stock_is_not(command_line: CommandLine, tmp_path: Path) -> None:
    def answer(call: Call) -> Answer:
        return Answer(status=503) if "/inventory/" in call.request else Answer()

    text = "sku,name,price_minor,currency,stock\ntea,Tea,1,USD,1\n"
    with answering(answer) as stack:
        ended = run(command_line, stack, tmp_path, "catalogue", "load", "-", content=text)

    assert ended.status == 1, ended
    assert "inventory refused: 503" in ended.stderr
    assert [call.request for call in stack.calls if "/checkout/" in call.request] == []


@pytest.mark.parametrize("stdout", [Stream.FULL, Stream.CLOSED])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_an_accepted_order_that_cannot_be_shown_is_named_and_repeated_under_its_key(
    command_line: CommandLine, tmp_path: Path, stdout: Stream, options: tuple[str, ...]
) -> None:
    file = tmp_path / "an order.json"
    file.write_text('{"customer_id": "c1"}')
    with answering(checkout := Checkout()) as stack:
        ended = run(command_line, stack, tmp_path, "orders", "submit", str(file), *options, stdout=stdout)
        (key,) = checkout.keys
        (repeated,) = re.findall(rf"accepted as order-0\. .* under the key {key}: \./baraza (.*)", ended.stderr)
        again = run(command_line, stack, tmp_path, *shlex.split(repeated))

    assert ended.status == 1, ended
    assert "The output cannot be written" in ended.stderr
    assert again.stdout.startswith("order-0 "), again
    assert list(checkout.keys) == [key]


@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize(
    ("status", "stdout", "expected"),
    [
        (200, Stream.FULL, "The movement was recorded."),
        (503, Stream.FILE, "Whether the movement was recorded is unknown."),
        (0, Stream.FILE, "Whether the movement was recorded is unknown."),
    ],
)
def test_a_movement_whose_answer_is_lost_is_repeated_under_its_key(
    command_line: CommandLine, tmp_path: Path, options: tuple[str, ...], status: int, stdout: Stream, expected: str
) -> None:
    level = {"sku": "tea", "on_hand": 7, "received": 9}
    answer = Answer(status=status, content=json.dumps({"levels": [level]}).encode())
    arguments = ("catalogue", "receive", "tea", "--units", "5", "--reason", "asked for", *options)
    with answering(lambda _: answer) as stack:
        ended = run(command_line, stack, tmp_path, *arguments, stdout=stdout)

    (call,) = stack.calls
    key = call.headers["idempotency-key"]
    assert ended.status == 1, ended
    assert ended.stderr.endswith(f"{expected} Repeat the command safely with --idempotency-key {key}\n"), ended


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("orders", "cancel", "o1"), "The cancellation of o1 was requested"),
        (("sagas", "compensate", SAGA, "--reason", "x", "--json"), "Requested all the same"),
        (("sagas", "cancel", SAGA, "--reason", "x", "--json"), "Requested all the same"),
        (
            ("sagas", "resolve", SAGA, "--as", "confirmed", "--reason", "x", "--json"),
            "Plan p1 is APPLIED. Show it with: ./baraza redrive --show p1",
        ),
        (("sagas", "approve", "p1", "--reason", "x", "--json"), "Plan p1 is APPLIED."),
        (("redrive", "--plan", "all", "--json"), "./baraza redrive --show p1"),
        (("redrive", "--apply", "p1", "--reason", "x"), "./baraza redrive --show p1"),
        (("letters", "close", "l1", "--reason", "x", "--json"), "1 closed all the same"),
    ],
)
def test_what_was_done_and_cannot_be_shown_is_named(
    command_line: CommandLine, tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    plan = {"plan_id": "p1", "act": "REDRIVE", "state": "APPLIED", "counts": {}, "items": [], "next_after": None}
    order = {"order_id": "o1", "state": "PENDING", "message": "Received."}
    content = json.dumps({**order, **plan, "saga": {"revision": 1}, "closed": ["l1"]}).encode()
    with answering(lambda _: Answer(content=content)) as stack:
        ended = run(command_line, stack, tmp_path, *arguments, stdout=Stream.FULL)

    assert ended.status == 1, ended
    assert "The output cannot be written" in ended.stderr
    assert expected in ended.stderr
