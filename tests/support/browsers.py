"""A real Chromium for tests, and what it complains about. Without one the tests fail, they never skip."""

from __future__ import annotations

from playwright.sync_api import ConsoleMessage, Page

from baraza.bench.chromium import chromium

__all__ = ["chromium", "complaints_of"]


def complaints_of(page: Page) -> list[str]:
    """Return the list to which everything is added that the page complains about: errors, and violations of its policy.

    Chromium reports an answer of 400 and above as an error of the console as well, of a page and of a file.
    """
    found: list[str] = []

    def on_message(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            found.append(f"{message.type}: {message.text}")

    page.on("console", on_message)
    page.on("pageerror", lambda error: found.append(f"page error: {error}"))
    return found
