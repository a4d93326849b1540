"""The short codes that callers have at a simulated provider of mobile money, from a JSON file."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from simulators.server import SimulatorSettings


class MobileMoneySettings(SimulatorSettings):
    """The settings of a provider of mobile money. Environment: BARAZA_SIMULATOR_SHORT_CODES (a file)."""

    simulator_short_codes: Path


class ShortCode(BaseModel):
    """One short code: the keys of its API, and at Daraja its passkey and its initiator, with the password in a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    short_code: str
    currency: str
    calls_per_s: float | None = None
    key_file: Path
    secret_file: Path
    passkey_file: Path | None = None
    initiator: str | None = None
    initiator_password_file: Path | None = None

    @property
    def key(self) -> str:
        """The key of its API, read anew each time."""
        return self.key_file.read_text().strip()

    @property
    def secret(self) -> str:
        """The secret of that key, read anew each time."""
        return self.secret_file.read_text().strip()

    @property
    def passkey(self) -> str:
        """The passkey of its prompts, read anew each time; empty where it has none."""
        return _content(self.passkey_file)

    @property
    def initiator_password(self) -> str:
        """The password of its initiator, read anew each time; empty where it has none."""
        return _content(self.initiator_password_file)


class ShortCodes(BaseModel):
    """All short codes at one provider."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    short_codes: tuple[ShortCode, ...]

    def numbered(self, short_code: str) -> ShortCode | None:
        """Return a short code by its digits."""
        return next((each for each in self.short_codes if each.short_code == short_code), None)


def read(file: Path) -> ShortCodes:
    """Return the short codes in a file."""
    return ShortCodes.model_validate_json(file.read_bytes())


def _content(file: Path | None) -> str:
    return "" if file is None else file.read_text().strip()
