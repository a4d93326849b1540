"""Our short codes at providers of mobile money, from one file: addresses, limits, and the names of files with secrets.

The file is JSON and holds no secret. A provider that is not here is not called, and no callback of it is believed.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, ValidationError, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Provider = Literal["daraja", "momo"]
OF_DARAJA = ("passkey_file", "initiator", "initiator_password_file", "certificate")
"""What only Daraja needs."""


class InvalidShortCodes(ValueError):
    """The file of short codes cannot be used; the text names the file, the field, and what is wrong with it."""


class ShortCode(BaseModel):
    """One short code at one provider.

    ``callback_url`` is our address as the provider reaches it, without the secret segment that
    ``callback_secret_file`` holds. ``calls_per_s`` is the provider's limit for the short code, over all processes;
    ``members_share`` of it is for members alone, the rest also for dividends. ``certificate`` is a file, or the
    address at which the provider publishes it. ``callbacks_from`` are the addresses that callbacks come from; empty:
    any. ``confirm_from_minor``: a receipt that only a callback has brought counts from this amount on once the
    provider has confirmed it. ``initiator_password_set_on`` is the day on which the initiator's password was set, from
    which it lives for 90 days; without it nothing warns of its end.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    provider: Provider
    short_code: Annotated[str, Field(pattern=r"^[0-9]{5,7}$")]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    url: HttpUrl
    callback_url: HttpUrl
    callback_secret_file: Path
    callbacks_from: tuple[str, ...] = ()
    key_file: Path
    secret_file: Path
    passkey_file: Path | None = None
    initiator: str | None = None
    initiator_password_file: Path | None = None
    initiator_password_set_on: date | None = None
    certificate: str | None = None
    calls_per_s: Annotated[float, Field(gt=0)] = 20.0
    members_share: Annotated[float, Field(gt=0, le=1)] = 0.3
    confirm_from_minor: Annotated[int, Field(ge=0)] = 1_000_000

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [name for name in OF_DARAJA if getattr(self, name) is not None]
        if self.provider == "daraja" and len(given) < len(OF_DARAJA):
            missing = ", ".join(name for name in OF_DARAJA if name not in given)
            raise ValueError(f"short code {self.name} is at daraja and lacks {missing}")
        if self.provider != "daraja" and given:
            raise ValueError(f"short code {self.name} is at {self.provider}; only one at daraja has {', '.join(given)}")
        return self

    @property
    def callback_secrets(self) -> tuple[str, ...]:
        """The secret segments of callbacks' paths, one a line: the newest, and the one before while it is replaced."""
        return tuple(self.callback_secret_file.read_text().split())


class ShortCodes(BaseModel):
    """All short codes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    short_codes: tuple[ShortCode, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        for what in ("name", "short_code"):
            values = [getattr(each, what) for each in self.short_codes]
            if repeated := {value for value in values if values.count(value) > 1}:
                raise ValueError(f"{', '.join(sorted(repeated))} is listed twice; each {what} is unique")
        return self

    def named(self, short_code: str) -> ShortCode:
        """Return a short code by its digits. Raises LookupError, with the known ones."""
        for each in self.short_codes:
            if each.short_code == short_code:
                return each
        known = ", ".join(sorted(each.short_code for each in self.short_codes))
        raise LookupError(f"There is no short code {short_code!r}; known: {known}. Check the file of short codes.")


def read(file: Path | None) -> ShortCodes:
    """Return the short codes of a file; none without a file. Raises InvalidShortCodes."""
    if file is None:
        return ShortCodes()
    try:
        return ShortCodes.model_validate_json(file.read_bytes())
    except OSError as error:
        raise InvalidShortCodes(f"The file of short codes {file} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, each['loc'])) or 'the file'}: {each['msg']}" for each in error.errors())
        raise InvalidShortCodes(f"The file of short codes {file}: {'; '.join(problems)}") from error
