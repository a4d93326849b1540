"""No command prints a traceback, whatever its arguments, its environment and its file descriptors are.

Some hundreds of calls, each in a process of its own, without a stack: what is refused is refused in a sentence.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TypeVar

import pytest

from support.command_line import Case, CommandLine, Ended, Stream, serving
from support.elsewhere import Answer, answering, endpoints

ORDER = "01JCZ3K8T0ABCDEFGHJKMNPQRS"
SAYS = ("--reason", "asked for")
CALLS: tuple[tuple[str, ...], ...] = (
    ("status",), ("down",), ("rotate", "payment"), ("topics",), ("audit",), ("timeline", ORDER),
    ("sagas", "list"), ("sagas", "list", "--contradicted", "--type", "order"), ("sagas", "review"),
    ("sagas", "acts"), ("sagas", "cancel", ORDER, *SAYS),
    ("sagas", "compensate", ORDER, *SAYS), ("sagas", "annotate", ORDER, *SAYS), ("sagas", "settle", ORDER, *SAYS),
    ("sagas", "resolve", ORDER, "--as", "compensated", *SAYS), ("sagas", "approve", ORDER, *SAYS),
    ("redrive", "--plan", "all"), ("redrive", "--apply", ORDER, *SAYS), ("redrive", "--show", ORDER),
    ("letters", "list"), ("letters", "show", ORDER), ("letters", "close", ORDER, *SAYS), ("sagas", "now"),
    ("sagas", "count", "--cause", "rejected", "--cause", "cancelled"), ("sagas", "find", ORDER), ("plans", "list"),
    ("plans", "show", ORDER), ("plans", "approve", ORDER, *SAYS), ("plans", "pause", ORDER, *SAYS),
    ("plans", "resume", ORDER, *SAYS), ("plans", "stop", ORDER, *SAYS),
    ("events", "tail", "saga.events", "--limit", "1"),
    ("orders", "show", ORDER), ("orders", "cancel", ORDER), ("orders", "submit", "-"), ("orders", "replay", "-"),
    ("returns", "show", ORDER), ("returns", "cancel", ORDER), ("returns", "request", ORDER, "-"),
    ("catalogue", "load", "-"), ("customers", "load", "-"), ("catalogue", "stock", "tea"),
    ("catalogue", "receive", "tea", "--units", "1", *SAYS), ("customers", "grant", "ann", "--points", "1", *SAYS),
    ("ledger", "accounts"), ("ledger", "balance", "shop:sales:USD"), ("ledger", "entries", "shop:sales:USD", "--csv"),
    ("ledger", "trial-balance", "--chart", "shop", "--day", "2026-11-21"), ("ledger", "transfer", "a-reference"),
    ("ledger", "propose", "sacco:bank:KES=5", "sacco:fees:KES=-5", *SAYS), ("ledger", "approve", ORDER, *SAYS),
    ("ledger", "refuse", ORDER, *SAYS), ("ledger", "postings", "--state", "PROPOSED"),
    ("ledger", "close-day", "--chart", "shop", "--day", "2026-11-21"),
    ("members", "load", "-"), ("members", "list"), ("members", "show", "00123"), ("members", "statement", "00123"),
    ("members", "status", "00123", "BLOCKED", *SAYS), ("deposits", "request", "00123", "--amount", "500"),
    ("deposits", "show", ORDER), ("deposits", "list", "00123"), ("deposits", "receipts", "00123"),
    ("deposits", "receipt", "RKTQDM7W6S"),
    ("deposits", "enter", "600100", "RKTQDM7W6S", "--amount", "5", "--at", "2026-11-21T10:00:00+03:00"),
    ("withdrawals", "request", "00123", "--amount", "1500"), ("withdrawals", "show", ORDER),
    ("withdrawals", "list", "00123"), ("withdrawals", "cancel", ORDER, *SAYS),
    ("loans", "apply", "LN17", "00123", "--amount", "9000", "--interest", "12", "--months", "9"),
    ("loans", "show", "LN17"), ("loans", "list"), ("loans", "appraise", "LN17", *SAYS),
    ("loans", "approve", "LN17", *SAYS), ("loans", "refuse", "LN17", *SAYS), ("loans", "release", "LN17", "1"),
    ("loans", "repay", "LN17", "00123", "--amount", "5"), ("loans", "repayments", "00123"),
    ("dividends", "compute", "2025-DIV", "--year", "2025", "--dividend", "12", "--rebate", "9", "--regulator", "r",
     "--meeting", "m", *SAYS),
    ("dividends", "list"), ("dividends", "show", "2025-DIV"), ("dividends", "lines", "2025-DIV"),
    ("dividends", "approve", "2025-DIV", "--lines-sha256", "ab" * 32, *SAYS),
    ("dividends", "refuse", "2025-DIV", *SAYS),
    ("money", "in-doubt"), ("money", "unallocated"), ("money", "assign", "RKTQDM7W6S", "00123", *SAYS),
    ("money", "return", "RKTQDM7W6S", *SAYS), ("money", "proposals"), ("money", "approve", ORDER, *SAYS),
    ("money", "refuse", ORDER, *SAYS), ("money", "evidence", ORDER), ("money", "callbacks"), ("money", "receipts"),
    ("money", "reopen", ORDER), ("money", "lanes"), ("money", "lane", "600100", "BULK", "OPEN", *SAYS),
    ("money", "floats"), ("statement", "import", "-", "--short-code", "600100", "--account", "UTILITY"),
    ("statement", "list"), ("statement", "rows"), ("statement", "claims"), ("statement", "approve", ORDER),
    ("statement", "claim", ORDER, "--receipt", "RKTQDM7W6S", "--short-code", "600100", *SAYS),
    ("statement", "booked", "RKTQDM7W6S", "--posting", ORDER, "--kind", "TRANSFER", "--short-code", "600100", *SAYS),
    ("statement", "refuse", ORDER), ("day", "report", "600100", "2026-11-21"),
    ("day", "close", "600100", "2026-11-21"), ("day", "list"),
    ("backup", "inventory", "inventory.dump"),
    ("restore", "inventory", "inventory.dump"), ("reconcile", "inventory", "--since", "2026-11-21T10:00:00Z"),
    ("rebuild", "tracker.dump"), ("reread", "payment.events"),
)  # fmt: skip
"""Every command that needs a stack which is up, with arguments that are well formed."""
STARTING = (("up",),)
"""The command that would start one."""
NOT_CALLED = (
    "down",
    "rotate",
    "status",
    "topics",
    "audit",
    "events",
    "backup",
    "restore",
    "reconcile",
    "rebuild",
    "reread",
)
CALLED: tuple[tuple[str, ...], ...] = (*(each for each in CALLS if each[0] not in NOT_CALLED),)
"""The commands that call services and nothing else."""
INPUT = {
    "orders submit": '{"customer_id": "c1"}',
    "orders replay": '{"customer_id": "c1", "idempotency_key": "k1"}\n',
    "returns request": '{"lines": []}',
    "catalogue load": "sku,name,price_minor,currency,stock\ntea,Tea,1,USD,1\n",
    "customers load": "customer_id,points\nc1,7\n",
    "members load": "member_id,name,phone,opening_shares_minor,opening_deposits_minor\n00123,Ann,0712345678,0,0\n",
    "statement import": '["a server of these tests reads JSON"]',
}


Each = TypeVar("Each")


def spread(cases: Iterable[Each], every: int) -> list[Each]:
    """Return each ``every``-th of these combinations, so that none of their parts is left out."""
    return list(cases)[::every]


def environment(folder: Path, **variables: str) -> dict[str, str]:
    return {"PATH": os.defpath, "HOME": str(folder), "NO_COLOR": "1", "COLUMNS": "120", **variables}


def check(ended: Ended, call: object, *, statuses: Sequence[int] = (0, 1, 2), is_heard: bool = True) -> None:
    """Check that the command ended in order, and that it stated why where it failed."""
    text = f"{call}\n{ended}"
    assert "Traceback" not in ended.stderr + ended.stdout, text
    assert "a defect of baraza" not in ended.stderr, text
    assert ended.status in statuses, text
    if ended.status and is_heard:
        assert ended.stderr.strip(), text


def check_all(command_line: CommandLine, cases: Iterable[Case], *, statuses: Sequence[int] = (0, 1, 2)) -> list[Ended]:
    """Run the cases and check each of them."""
    listed = list(cases)
    found = command_line.run_all(listed)
    for case, ended in zip(listed, found, strict=True):
        check(ended, case, statuses=statuses, is_heard=case.stderr == Stream.FILE)
    return found


def folders(base: Path) -> dict[str, Path]:
    """Return homes that hold no stack, or a damaged one, by what is wrong with them."""
    file = base / "file"
    file.write_text("I am a file.")
    found = {
        "a file": file,
        "below a file": file / "home",
        "below a device": Path("/dev/null/home"),
        "in /proc": Path("/proc/home"),
        "too long": base / ("a" * 300),
        "far too long": base.joinpath(*["a" * 200] * 30),
        "a line break": base / "a\nb",
        "a quote": base / 'a"b',
        "a backslash": base / "a\\b",
        "a comma": base / "a,b",
        "not UTF-8": base / os.fsdecode(b"a\xe9b"),
        "empty": Path(""),
    }
    loop = base / "loop"
    loop.symlink_to(loop)
    found["a loop"] = loop
    valid = {"id": "0" * 32, "version": 2, "parts": ["kafka"], "ports": {"kafka": 1}}
    damaged = {
        "empty": "", "no JSON": "{", "a list": "[]", "pairs": "[[1, 2]]", "a number": "7", "null": "null",
        "unknown": '{"x": 1}', "an object": "{}",
        "bytes": "\udce9", "deep": "[" * 100_000, "digits": "9" * 5_000,
        "no version": json.dumps({**valid, "version": None}),
        "ports": json.dumps({**valid, "ports": []}), "a port": json.dumps({**valid, "ports": {"kafka": "x"}}),
        "id": json.dumps({**valid, "id": 7}), "components": json.dumps({**valid, "parts": 7}),
        "replicas": json.dumps({**valid, "replicas": {"payment": "x"}}),
        "an environment": json.dumps({**valid, "environment": {"payment": 7}}),
        "cache": json.dumps({**valid, "cache": 7}),
    }  # fmt: skip
    for number, (what, text) in enumerate(damaged.items()):
        home = base / f"damaged-{number}"
        home.mkdir()
        (home / "stack.json").write_bytes(text.encode("utf-8", "surrogateescape"))
        found[f"stack.json: {what}"] = home
    (base / "folder" / "stack.json").mkdir(parents=True)
    found["stack.json: a folder"] = base / "folder"
    return found


def test_a_home_that_is_none_is_refused_by_every_command(command_line: CommandLine, tmp_path: Path) -> None:
    homes = folders(tmp_path)
    before = sorted(tmp_path.iterdir())
    everywhere = [*product((("status",), ("up",)), homes.items())]
    cases = [
        Case(
            arguments=(*call, "--home", str(home)),
            environment=environment(tmp_path),
            content=INPUT.get(" ".join(call[:2]), ""),
        )
        for call, (what, home) in [*everywhere, *spread(product([*CALLS, *STARTING], homes.items()), 11)]
        if call not in STARTING or what != "empty"
    ]
    check_all(command_line, cases, statuses=(1, 2))
    assert sorted(tmp_path.iterdir()) == before, "a command wrote beside the home"


NUMBERS = ("inf", "-inf", "nan", "1e400", "-1", "9" * 400, "9" * 5_000, "x", "", "²", "0x1")
NUMBERED: tuple[tuple[str, ...], ...] = (
    ("audit", "--wait"), ("orders", "replay", "-", "--rate"), ("orders", "replay", "-", "--orders"),
    ("sagas", "list", "--limit"), ("events", "tail", "saga.events", "--limit"),
    ("redrive", "--apply", ORDER, *SAYS, "--rate"),
    ("up", "--home", "/dev/null/home", "--replicas"),
    *(("chaos", "--home", "/dev/null/home", name) for name in ("--minutes", "--rate", "--seed")),
    *(("demo", "--home", "/dev/null/home", name) for name in ("--rate", "--orders", "--in-flight", "--seed")),
)  # fmt: skip
UNENDING: tuple[tuple[str, ...], ...] = (
    *(("bench", "peers", name) for name in ("--seconds", "--spike-seconds", "--partitions", "--size", "--processes")),
    *(("bench", mode, name) for mode in ("payments", "sacco") for name in ("--seconds", "--warm-up", "--partitions")),
)


def test_a_number_that_is_none_is_refused(command_line: CommandLine, tmp_path: Path) -> None:
    cases = [
        Case(arguments=(*call, number), environment=environment(tmp_path), content=INPUT["orders replay"])
        for call, number in spread(product(NUMBERED, NUMBERS), 3)
    ]
    check_all(command_line, cases, statuses=(1, 2))
    unending = [
        Case(arguments=(*call, number), environment=environment(tmp_path))
        for call, number in product(UNENDING, ("inf", "nan", "-1"))
    ]
    check_all(command_line, unending, statuses=(2,))


@pytest.mark.parametrize(
    "option",
    [
        ("chaos", "--rate"),
        ("demo", "--rate"),
        ("orders", "replay", "-", "--rate"),
        ("audit", "--wait"),
        ("chaos", "--minutes"),
        ("chaos", "--sacco-rate"),
        ("bench", "peers", "--seconds"),
    ],
)
@pytest.mark.parametrize("number", ["inf", "nan", "1e400"])
def test_a_rate_without_an_end_is_wrong_usage(
    command_line: CommandLine, tmp_path: Path, option: tuple[str, ...], number: str
) -> None:
    ended = command_line.run(Case(arguments=(*option, number), environment=environment(tmp_path)))

    assert ended.status == 2, ended
    assert f"Invalid value for '{option[-1]}'" in ended.stderr


TEXTS = (
    "",
    " ",
    "\n",
    "\x1b[31m",
    "\udce9",
    "é",
    "𝄞",
    "a" * 100_000,
    "../..",
    "-",
    "--",
    "%s%n",
    "{0}",
    "null",
    "\u202e",
    "/",
    "?a=b#c",
)
TEXTUAL: tuple[tuple[str, ...], ...] = (
    ("timeline", "{}"), ("orders", "show", "{}"), ("orders", "submit", "{}"), ("orders", "replay", "{}"),
    ("catalogue", "load", "{}"), ("customers", "load", "{}"), ("catalogue", "stock", "{}"),
    ("catalogue", "correct", "{}", "--units", "1", *SAYS), ("customers", "grant", "{}", "--points", "1", *SAYS),
    ("customers", "grant", "ann", "--points", "1", *SAYS, "--idempotency-key", "{}"),
    ("ledger", "balance", "{}"), ("ledger", "accounts", "--owner", "{}"), ("ledger", "propose", "{}", "a:b=1", *SAYS),
    ("ledger", "propose", "a:b={}", "a:b=1", *SAYS), ("ledger", "verify", "--heads", "{}"),
    ("orders", "submit", "-", "--idempotency-key", "{}"),
    ("sagas", "list", "--state", "{}"), ("sagas", "list", "--customer", "{}"),
    ("sagas", "list", "--subject", "{}"), ("sagas", "list", "--step", "{}"),
    ("sagas", "cancel", "{}", *SAYS), ("sagas", "cancel", ORDER, "--reason", "{}"),
    ("redrive", "--plan", "{}"), ("redrive", "--plan", "after={}"), ("redrive", "--plan", "id={}"),
    ("redrive", "--apply", "{}", *SAYS), ("letters", "close", "{}", *SAYS), ("saga", "show", "{}"),
    ("sagas", "find", "{}"), ("sagas", "list", "--id-prefix", "{}"), ("sagas", "count", "--group", "{}"),
    ("sagas", "acts", "--actor", "{}"), ("sagas", "acts", "--since", "{}"), ("letters", "list", "--state", "{}"),
    ("plans", "stop", "{}", *SAYS), ("plans", "list", "--state", "{}"),
    ("backup", "inventory", "{}"), ("backup", "{}", "dump"), ("restore", "inventory", "{}"), ("restore", "{}", "dump"),
    ("reconcile", "inventory", "--since", "{}"), ("rotate", "{}"), ("events", "tail", "{}"),
    ("chaos", "--fault", "{}"), ("simulate", "--control", "{}"), ("explore", "--control", "{}"),
    ("up", "--replicas", "{}", "--home", "/dev/null/home"), ("bench", "{}"), ("{}",), ("orders", "{}"),
    ("status", "{}"), ("status", "--{}"),
)  # fmt: skip


def test_any_text_is_taken_or_refused(command_line: CommandLine, tmp_path: Path) -> None:
    cases = [
        Case(
            arguments=tuple(word.replace("{}", text) for word in call),
            environment=environment(tmp_path),
            content=INPUT["orders submit"],
        )
        for call, text in spread(product(TEXTUAL, TEXTS), 5)
    ]
    check_all(command_line, cases)


TIMES = (
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "2026-02-30",
    "noon",
    "2026-11-21T10:00:00+25:00",
    "١٢",
)


def test_a_time_that_is_none_is_refused(command_line: CommandLine, tmp_path: Path) -> None:
    cases = [
        Case(arguments=(*call, text if call[0] == "reconcile" else f"after={text}"), environment=environment(tmp_path))
        for call, text in product((("reconcile", "inventory", "--since"), ("redrive", "--plan")), TIMES)
    ]
    check_all(command_line, cases, statuses=(1, 2))


VARIABLES: Mapping[str, Sequence[str]] = {
    "BARAZA_HOME": ("", "\udce9", "a" * 5_000, "/dev/null", "~"),
    "BARAZA_CACHE": ("", "\udce9", "a:b", "/dev/null/cache", "a\nb"),
    "BARAZA_TLS": ("", "yes", "\udce9"),
    "BARAZA_PORT_KAFKA": ("", "x", "0", "70000", "²", "9" * 5_000, "-1"),
    "BARAZA_PORT_": ("1",),
    "BARAZA_PORT_NOTHING": ("20000",),
    "BARAZA_PLACES": ("/", "/dev/null", "/nowhere", "\udce9", "a" * 5_000, "/dev/zero\x01"),
    "HOME": ("", "relative", "/dev/null", "\udce9"),
    "XDG_CACHE_HOME": ("/dev/null", "\udce9"),
    "COLUMNS": ("0", "-1", "x", "1", "9" * 30),
    "LINES": ("x",),
    "TERM": ("", "nothing", "dumb"),
    "TZ": ("Nowhere/Nothing", "\udce9"),
    "TMPDIR": ("/dev/null", "/nowhere"),
    "FORCE_COLOR": ("1",),
    "_BARAZA_COMPLETE": ("x", "bash_source"),
    "_TYPER_FORCE_DISABLE_TERMINAL": ("x",),
    "TERMINAL_WIDTH": ("x",),
    "PGSSLMODE": ("nonsense",),
    "PSYCOPG_IMPL": ("nonsense",),
}


def test_no_variable_of_the_caller_breaks_a_command(command_line: CommandLine, tmp_path: Path) -> None:
    calls = (("status",), ("saga", "show", "order"), ("sagas", "list"), ("--help",), ("backup", "inventory", "dump"))
    up = ("up", "--home", "/dev/null/home")
    cases = [
        Case(arguments=call, environment={**environment(tmp_path), name: value})
        for name, values in VARIABLES.items()
        for call, value in spread(product((*calls, up), values), 4)
    ]
    check_all(command_line, cases)


@pytest.mark.parametrize(
    "call",
    [
        ("saga", "show", "order"),
        ("saga", "show", "order", "--json"),
        ("--help",),
        ("status",),
        ("orders", "submit", "-"),
        ("schemas", "check"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_streams_that_are_closed_full_gone_or_ascii_break_nothing(
    command_line: CommandLine, tmp_path: Path, call: tuple[str, ...], encoding: str
) -> None:
    cases = [
        Case(
            arguments=call, environment=environment(tmp_path), content=INPUT["orders submit"], encoding=encoding,
            stdin=stdin, stdout=stdout, stderr=stderr,
        )
        for stdin, stdout, stderr in spread(product((Stream.FILE, Stream.CLOSED), Stream, Stream), 5)
    ]  # fmt: skip
    check_all(command_line, cases)


@pytest.mark.parametrize(
    ("stdout", "reason"), [(Stream.FULL, "no space left on device"), (Stream.CLOSED, "bad file descriptor")]
)
def test_output_that_cannot_be_written_is_an_error(
    command_line: CommandLine, tmp_path: Path, stdout: Stream, reason: str
) -> None:
    ended = command_line.run(
        Case(arguments=("saga", "show", "order"), environment=environment(tmp_path), stdout=stdout)
    )

    assert (ended.status, ended.stderr) == (1, f"baraza: The output cannot be written: {reason}.\n")


def test_a_reader_that_has_read_enough_is_no_error(command_line: CommandLine, tmp_path: Path) -> None:
    for call in (("saga", "show", "order"), ("--help",), ("saga", "--help"), ("saga", "show", "order", "--json")):
        ended = command_line.run(Case(arguments=call, environment=environment(tmp_path), stdout=Stream.GONE))
        assert (ended.status, ended.stderr) == (0, ""), call


def test_json_is_json_where_the_locale_is_ascii(command_line: CommandLine, tmp_path: Path) -> None:
    saga = {"saga_id": "s", "state": "PENDING", "subject": "J\u00f3\U0001d11e"}
    content = json.dumps({"sagas": [saga], "next_cursor": None}).encode()
    with answering(lambda _: Answer(content=content)) as stack:
        variables = environment(tmp_path, BARAZA_PLACES=stack.file(tmp_path))
        ended = command_line.run(Case(arguments=("sagas", "list", "--json"), environment=variables, encoding="ascii"))

    assert json.loads(ended.stdout) == [saga], ended


ANSWERS: tuple[tuple[int, dict[str, str], bytes], ...] = (
    (200, {}, b"<html>Sign in</html>"), (200, {}, b""), (200, {}, b"[]"), (200, {}, b"7"), (200, {}, b"null"),
    (200, {}, b"{}"), (200, {}, b'{"sagas": 7, "plan_id": {}, "counts": [], "entries": "x", "results": {}}'),
    (200, {}, b"\xff\xfe"), (200, {}, b"[" * 200_000), (200, {"Content-Encoding": "gzip"}, b"no gzip"),
    (200, {"Content-Length": "9"}, b"{}"), (204, {}, b""), (301, {"Location": "http://127.0.0.1:1/"}, b""),
    (400, {}, b'{"detail": 7, "errors": 7}'), (404, {}, b"<html>"), (409, {}, b'["x"]'), (422, {}, b'{"errors": [{}]}'),
    (500, {}, b'{"detail": ""}'), (599, {}, b"\xff"), (200, {}, b'{"a": ' + b"9" * 5_000 + b"}"),
    (200, {"Content-Type": "text/event-stream"}, b"data: {\n\n"),
)  # fmt: skip


@pytest.mark.parametrize("answer", range(len(ANSWERS)))
def test_an_answer_that_is_none_is_reported(command_line: CommandLine, tmp_path: Path, answer: int) -> None:
    status, headers, content = ANSWERS[answer]
    with answering(lambda _: Answer(status=status, content=content, headers=headers)) as stack:
        variables = environment(tmp_path, BARAZA_PLACES=stack.file(tmp_path))
        calls = [*CALLED, ("timeline", ORDER, "--follow"), *((*call, "--json") for call in CALLED)]
        is_repeated = status in (409, 500) or bool({"Content-Encoding", "Content-Length"} & set(headers))
        """For a minute, by a replay."""
        cases = [
            Case(arguments=call, content=INPUT.get(" ".join(call[:2]), ""), environment=variables)
            for call in spread(calls[answer % 4 :], 4)
            if call[:2] != ("orders", "replay") or not is_repeated
        ]
        check_all(command_line, cases)


PLACES: Mapping[str, object] = {
    "nothing": {}, "a list": [], "a number": 7, "http": {"http": 7}, "a service": {"http": {"issuer": []}},
    "an address": {"http": {"issuer": [7]}}, "databases": {"databases": []}, "secrets": {"secrets": 7},
}  # fmt: skip


def test_a_file_of_endpoints_that_lacks_some_is_refused(command_line: CommandLine, tmp_path: Path) -> None:
    for what, changed in PLACES.items():
        whole = what in ("nothing", "a list", "a number")
        listed = changed if whole else {**endpoints("http://127.0.0.1:1"), **changed}
        (tmp_path / what).write_text(json.dumps(listed))
    cases = [
        Case(
            arguments=call, content=INPUT.get(" ".join(call[:2]), ""),
            environment=environment(tmp_path, BARAZA_PLACES=str(tmp_path / what)),
        )
        for call, what in spread(product(CALLED, PLACES), 5)
    ]  # fmt: skip
    check_all(command_line, cases, statuses=(1, 2))
    places = tmp_path / "endpoints.json"
    marked = b"\xef\xbb\xbf" + json.dumps(endpoints("http://127.0.0.1:1")).encode()
    places.write_bytes(marked)
    case = Case(arguments=("sagas", "list"), environment=environment(tmp_path, BARAZA_PLACES=str(places)))
    ended = command_line.run(case)
    assert "issuer at http://127.0.0.1:1/issuer does not answer" in ended.stderr, ended
    for url in ("", "nonsense", "http://", "http://[", "http://127.0.0.1:99999", "ftp://127.0.0.1", "http://\x00"):
        places.write_text(json.dumps(endpoints(url)))
        case = Case(arguments=("sagas", "list"), environment=environment(tmp_path, BARAZA_PLACES=str(places)))
        check(command_line.run(case), url, statuses=(1, 2))


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_done(
    command_line: CommandLine, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    for target, reason in (
        (tmp_path, "is a directory"),
        (file / "x", "not a directory"),
        (tmp_path / "no" / "x", "no such file or directory"),
        (Path("/dev/null"), "not a file"),
    ):
        ended = command_line.run(
            Case(arguments=("backup", "inventory", str(target)), environment=environment(tmp_path))
        )
        assert ended.status == 2, ended
        assert reason in ended.stderr, ended
    assert sorted(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "utf-16"},
    ],
)
def test_another_locale_breaks_nothing(tmp_path: Path, variables: dict[str, str]) -> None:
    home = tmp_path / "hé 100% 𝄞"
    whole = {**environment(tmp_path), **variables}
    with serving(whole) as command_line:
        calls = (("saga", "show", "order"), ("status", "--home", str(home)), ("orders", "show", "é"), ("--help",))
        check_all(command_line, [Case(arguments=call, environment=whole, encoding=None) for call in calls])


def test_a_working_directory_that_is_gone_breaks_nothing(command_line: CommandLine, tmp_path: Path) -> None:
    relative: tuple[tuple[str, ...], ...] = (
        ("status", "--home", "here"), ("up", "--home", "here"), ("orders", "submit", "x"), ("orders", "replay", "x"),
        ("catalogue", "load", "x"), ("backup", "inventory", "x"), ("restore", "inventory", "x"),
    )  # fmt: skip
    others = (*spread(CALLS, 3), ("saga", "show", "order"), ("schemas", "check"), ("--help",))
    for calls, statuses in ((relative, (1, 2)), (others, (0, 1, 2))):
        folders = [tmp_path / f"{len(statuses)}-{number}" for number in range(len(calls))]
        for folder in folders:
            folder.mkdir()
        cases = [
            Case(
                arguments=call, content=INPUT.get(" ".join(call[:2]), ""), environment=environment(tmp_path),
                folder=str(folder),
            )
            for call, folder in zip(calls, folders, strict=True)
        ]  # fmt: skip
        check_all(command_line, cases, statuses=statuses)
