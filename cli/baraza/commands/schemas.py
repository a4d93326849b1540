"""``baraza schemas``: the message classes and the AsyncAPI document that are generated from the schemas."""

from __future__ import annotations

from pathlib import Path

from baraza.commands.options import Commands
from baraza.terminal import Refusal, put

app = Commands(no_args_is_help=True, help="The wire contract in schemas/ and the classes generated from it.")


@app.command()
def generate() -> None:
    """Generate the message classes from the .avsc files."""
    from messages import generate as generator

    texts = generator.sources()
    stale = _stale()
    for path in stale:
        path.write_text(texts[path])
        put(str(path.relative_to(generator.SCHEMAS.parent)))


@app.command()
def check() -> None:
    """Check that the generated files are up to date; exit status 1 if one is not."""
    from messages import generate as generator

    stale = _stale()
    if stale:
        names = ", ".join(str(path.relative_to(generator.SCHEMAS.parent)) for path in stale)
        raise Refusal(f"Out of date: {names}. Run ./baraza schemas generate and commit the result.")


@app.command()
def asyncapi() -> None:
    """Print the AsyncAPI document of all topics: their messages, and who sends and receives them."""
    from stack import asyncapi as described

    put(described.text().rstrip())


def _stale() -> list[Path]:
    from messages import generate as generator

    try:
        return [path for path, text in generator.sources().items() if not path.exists() or path.read_text() != text]
    except (ValueError, KeyError) as error:
        raise Refusal(f"The schemas cannot be read: {error}. Check the .avsc files.") from error
