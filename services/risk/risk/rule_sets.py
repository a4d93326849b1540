"""Which version of the rules is active: the one that was stored last, the same for every process of the service.

A process stores the version that it was started with, unless that is known. A reload stores the file as it is then. So
every version that has ever decided is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, text

from chassis.postgres.statement import Statement
from risk.rules import InvalidRules, OnUndecided, RuleSet, read

SHIPPED: Final = Path(__file__).with_name("merchants.toml")
"""The rules that come with the service; a setting names another file."""
AT_START: Final = "The process was started with it."

ACTIVE = Statement("""
    SELECT version, EXISTS (SELECT FROM rule_sets WHERE version = %(own)s) AS is_own_stored
    FROM rule_sets ORDER BY ordinal DESC LIMIT 1
""")

DOCUMENT = Statement("SELECT document FROM rule_sets WHERE version = %(version)s")

STORE = Statement("""
    INSERT INTO rule_sets (version, document, reason, stored_by)
    VALUES (%(version)s, %(document)s, %(reason)s, %(stored_by)s)
    ON CONFLICT (version) DO NOTHING
    RETURNING version
""")

HISTORY = text("""
    SELECT version, reason, stored_by, stored_at FROM rule_sets ORDER BY ordinal DESC LIMIT :limit
""")


class VersionTaken(ValueError):
    """A version is stored already with other rules. A change of the rules needs another version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Active:
    """The active version. ``rules`` is None where this release cannot read it."""

    version: str
    rules: RuleSet | None
    on_undecided: OnUndecided


@dataclass(slots=True)
class RuleSets:
    """The rules of a file, and the stored versions. Raises InvalidRules where the file is not valid."""

    path: Path = SHIPPED
    _document: str = field(init=False)
    _own: RuleSet = field(init=False)
    _known: dict[str, RuleSet | None] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._document = self.path.read_text(encoding="utf-8")
        self._own = read(self._document)

    def active(self, tx: Connection) -> Active:
        """Return the version that was stored last; the process's own is stored first where it is not known."""
        found = ACTIVE.rows(tx, {"own": self._own.version})
        if not found or not found[0].is_own_stored:
            self._store(tx, self._own, self._document, AT_START, "risk")
            found = ACTIVE.rows(tx, {"own": self._own.version})
        version: str = found[0].version
        if version not in self._known:
            (row,) = DOCUMENT.rows(tx, {"version": version})
            self._known[version] = _readable(row.document)
        rules = self._known[version]
        decisive = self._own if rules is None else rules
        return Active(version=version, rules=rules, on_undecided=decisive.document.on_undecided)

    def reload(self, tx: Connection, *, reason: str, stored_by: str) -> RuleSet:
        """Store the file as it is now, so that it is active from the next batch on. A version that is active stays.

        Raises InvalidRules, with the field, and VersionTaken; then the version before stays active.
        """
        try:
            document = self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRules([("#", f"The file cannot be read: {error}")]) from error
        rules = read(document)
        self.active(tx)  # so that the process's own version is stored before, and never after this one
        if not self._store(tx, rules, document, reason, stored_by):
            (row,) = DOCUMENT.rows(tx, {"version": rules.version})
            if row.document != document:
                raise VersionTaken(
                    f"Version {rules.version} is stored with other rules. Give the changed file another version."
                )
            if self.active(tx).version != rules.version:
                raise VersionTaken(
                    f"Version {rules.version} was active before. To return to its rules, give them another version."
                )
        return rules

    def _store(self, tx: Connection, rules: RuleSet, document: str, reason: str, stored_by: str) -> bool:
        row = {"version": rules.version, "document": document, "reason": reason, "stored_by": stored_by}
        return bool(STORE.rows(tx, row))


def _readable(document: str) -> RuleSet | None:
    """Return a stored version; None where it is of a later release and names what this one does not know."""
    try:
        return read(document)
    except InvalidRules:
        return None
