"""The names of a new saga: of its messages, its step and its modules. Refuses what is no name, or is taken."""

from __future__ import annotations

import ast
import keyword
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from baraza.terminal import UsageRefusal
from messages.catalogue import MESSAGES
from messages.contract import name_of
from saga_tracker.definitions import DEFINITIONS
from stack import contract
from stack.selection import EVERY_SAGA, is_installed

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z][a-z0-9]*)*")
LENGTH_MAX = 40
"""A step's name is longer by one word, and is part of the name of a topic."""
GENERAL = ("chassis/chassis", "stack/stack", "services/saga-tracker/saga_tracker")
"""The packages that know no saga by name, so that a name must be no word of theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """A new saga in a checkout, and the service that starts it and has its step."""

    root: Path
    saga: str
    service: str

    @property
    def words(self) -> str:
        """The name for prose."""
        return self.saga.replace("_", " ")

    @property
    def type(self) -> str:
        """The beginning of the names of its messages."""
        return "".join(word.capitalize() for word in self.saga.split("_"))

    @property
    def constant(self) -> str:
        """The beginning of the names of its constants."""
        return self.saga.upper()

    @property
    def step(self) -> str:
        """The name of its step."""
        return f"accept_{self.saga}"

    @property
    def package(self) -> str:
        """The package of the service."""
        return contract.package_of(self.service)

    @property
    def folder(self) -> Path:
        """The folder of that package."""
        return self.root / "services" / self.service / self.package

    @property
    def own_messages(self) -> dict[str, str]:
        """The messages of the service, by what they are for."""
        return {
            "requested": f"{self.type}Requested",
            "accepted": f"{self.type}Accepted",
            "rejected": f"{self.type}Rejected",
            "withdraw": f"Withdraw{self.type}",
            "withdrawn": f"{self.type}Withdrawn",
        }

    @property
    def last_messages(self) -> dict[str, str]:
        """The last events, which the tracker publishes, by what they are for."""
        return {"completed": f"{self.type}Completed", "failed": f"{self.type}Failed"}

    @property
    def messages(self) -> dict[str, str]:
        """Every message of the saga, by what it is for."""
        return self.own_messages | self.last_messages


def named(root: Path, saga: str, service: str | None) -> Names:
    """Return the names of a new saga; without a service it is the one that people order from. Raises UsageRefusal."""
    if NAME.fullmatch(saga) is None or len(saga) > LENGTH_MAX or keyword.iskeyword(saga) or saga == EVERY_SAGA:
        raise UsageRefusal(
            f"{saga!r} is no name for a saga; write words of small letters with _ between them, such as pay_bill, "
            f"at most {LENGTH_MAX} characters."
        )
    found = Names(root=root, saga=saga, service=_service(root, service))
    if taken := next(_taken(found), None):
        raise UsageRefusal(f"The name {saga} is taken: {taken}. Choose another one.")
    return found


def _service(root: Path, service: str | None) -> str:
    known = tuple(each for each in contract.services() if is_installed(each))
    chosen = contract.starters()[0] if service is None else service
    if chosen not in known:
        raise UsageRefusal(f"There is no service {chosen!r}; known: {', '.join(known)}.")
    if contract.package_of(chosen) in _with_listed_modules(root):
        raise UsageRefusal(
            f"pyproject.toml lists every module of {chosen}, so that a new one needs a decision. Choose another "
            f"--service, and let {chosen} serve the saga by a trigger: docs/sagas.md, section 4."
        )
    return chosen


def _with_listed_modules(root: Path) -> set[str]:
    """Return the packages whose import rules list every module."""
    settings = tomllib.loads((root / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    return {package for each in contracts if each.get("exhaustive") for package in each["containers"]}


def _taken(names: Names) -> Iterator[str]:
    """Yield what has one of these names already."""
    if any(names.saga == definition.name for definition in DEFINITIONS.values()):
        yield f"there is a saga {names.saga}"
    steps = {step.name for definition in DEFINITIONS.values() for step in definition.steps}
    if names.step in steps:
        yield f"there is a step {names.step}"
    if names.saga in contract.services():
        yield f"there is a service {names.saga}"
    messages = {name_of(message_type): message_type.FULL_NAME for message_type in MESSAGES.values()}
    yield from (f"there is a message {messages[each]}" for each in names.messages.values() if each in messages)
    for folder in GENERAL:
        for module in sorted((names.root / folder).rglob("*.py")):
            if "definitions" not in module.parts and names.saga in _strings(module):
                yield f"{module.relative_to(names.root)} has the word {names.saga!r}, and may know no saga by name"
    handlers = names.folder / "handlers.py"
    if names.saga in _identifiers(handlers):
        yield f"{handlers.relative_to(names.root)} has a name {names.saga}"


def _strings(module: Path) -> set[object]:
    return {node.value for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Constant)}


def _identifiers(module: Path) -> set[str]:
    tree = ast.parse(module.read_text())
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    imported = {
        each.asname or each.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for each in node.names
    }
    return names | imported
