"""What the patterns of the APIs' fields mean, in words: a refusal never shows a regular expression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LINE: Final = "one line without control characters"
NAME: Final = "small letters, digits and _"
ID: Final = "letters, digits, - and _, 64 at most"

FORMS: Final[Mapping[str, str]] = {
    r"^[A-Z]{3}$": "a currency's code of ISO 4217, three capital letters, such as USD",
    r"^([A-Z]{3}|\*)$": "a currency's code of ISO 4217, such as USD, or * for any",
    r"^[a-z0-9][a-z0-9-]{0,39}$": "small letters, digits and -, 40 at most",
    r"^[0-9]{1,19}$": "a payment's number, in digits",
    r"^[0-9]{1,18}$": "a cursor as a response gave it, in digits",
    r"^[0-9]{5,7}$": "a short code of five to seven digits, such as 600100",
    r"^[A-Z0-9]{3,16}$": "a member's number, three to 16 capital letters and digits, such as 00123",
    r"^LN[0-9]{1,30}$": "a loan's number, LN and digits",
    r"^[A-Z_]{1,64}$": "an act's name, capital letters and _, such as REDRIVE",
    r"^[A-Z]{2}$": "a country's code of ISO 3166-1, two capital letters, such as US",
    r"^[!-~]+$": "printable ASCII characters without blanks",
    r"^-?[1-9][0-9]{0,18}$": "a whole number of minor units, without leading zeros, such as 1500 or -1500",
    r"^[1-9][0-9]{0,18}$": "a payment's number, as a response gave it",
    r"^[A-Za-z0-9_.:-]+$": "letters, digits and the characters _ . : -",
    r"^[^\x00-\x1f\x7f-\x9f]*$": LINE,
    r"^[^\x00-\x1f\x7f]+$": LINE,
    r"^[^\x00-\x1f\x7f]*[^\x00-\x1f\x7f\s][^\x00-\x1f\x7f]*$": f"{LINE}, and not only blanks",
    r"^[a-z0-9_]+$": NAME,
    r"^[a-z0-9_]{1,64}$": f"{NAME}, 64 at most",
    r"^[0-9A-Za-z_-]{1,64}$": ID,
    r"^[0-9A-Za-z_-]{0,64}$": ID,
    r"^[0-9A-Za-z_:-]{1,128}$": "the id of a gateway's report, as the list gave it",
    r"^[0-9A-Za-z_-]+$": "a cursor as a response gave it",
    r"^(0|[1-9][0-9]{0,18})$": "a whole number without leading zeros, such as 7 or 1844674407370955",
    r"^[0-9a-f]{8}$": "8 hexadecimal digits, as ./baraza sagas review shows them",
    r"^(|SAVINGS|DEPOSITS|SHARES|LN[0-9]{1,12})$": "SAVINGS, DEPOSITS, SHARES, a loan's number, or nothing",
    r"^LN[0-9]{1,12}$": "a loan's number, such as LN00123",
    r"^[A-Z0-9-]{3,24}$": "the id of a dividend run, such as 2025-DIV",
    r"^[A-Z0-9-]{3,40}$": "a receipt's number, letters and digits",
    r"^[A-Z]{1,20}$": "a state in capitals, such as ACTIVE",
    r"^[a-z][a-z0-9-]{0,39}$": "small letters, digits and -, 40 at most, such as standard",
    r"^[0-9a-f]{64}$": "a hash of 64 hexadecimal digits, as the run shows it",
    r"^KES$": "KES",
    r"^[A-Z0-9]{6,36}$": "a receipt's number, in capitals and digits, such as SFF6XYBG43",
    r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$": "a ULID, such as 01JCZ3K8T0ABCDEFGHJKMNPQRS",
    r"^[0-9A-HJKMNP-TV-Z]{26}$": "a ULID, such as 01JCZ3K8T0ABCDEFGHJKMNPQRS",
}
"""The words by pattern; a contract test looks for patterns that have none."""


def words_of(pattern: str) -> str:
    """Return the sentence for a text that does not have this form."""
    words = FORMS.get(pattern)
    return f"Not of the expected form: {words}." if words else "Not of the form that the API's description gives."
