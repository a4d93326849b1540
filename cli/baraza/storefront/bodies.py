"""Files that hold one body of a request, in JSON."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from baraza.storefront.orderfile import LINE_BYTES_MAX
from baraza.storefront.tabular import unreadable
from baraza.terminal import UsageRefusal
from chassis.values.json_text import JsonFlaw, parse


def json_of(file: Path, request: str) -> Any:
    """Return the JSON of a file, - for stdin. Raises UsageRefusal, which names the request that it is a body of."""
    try:
        with nullcontext(sys.stdin.buffer) if str(file) == "-" else file.open("rb") as opened:
            content = opened.read(LINE_BYTES_MAX + 1)
        if len(content) > LINE_BYTES_MAX:
            raise UsageRefusal(f"{file} has more than {LINE_BYTES_MAX} bytes; expected one body of {request}.")
        return parse(content)
    except OSError as error:
        raise unreadable(file, error) from error
    except JsonFlaw as flaw:
        raise UsageRefusal(f"{file}: {flaw}") from flaw
    except UnicodeDecodeError as error:
        raise UsageRefusal(f"{file} is not UTF-8 at byte {error.start}; save it as UTF-8.") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise UsageRefusal(f"{file} is not JSON: {where}; expected one body of {request}.") from error
    except RecursionError as error:
        raise UsageRefusal(f"{file} is nested too deeply; expected one body of {request}.") from error
