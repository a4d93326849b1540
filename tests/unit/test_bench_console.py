"""The console's benchmark without a stack: where Playwright is missing, and how a browser's request looks."""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from baraza.bench import chromium
from baraza.bench.requests import Request, Requests
from baraza.terminal import Refusal
from support.waiting import until


def test_without_playwright_the_benchmark_says_what_is_missing_before_it_starts_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "playwright", None)
    with pytest.raises(Refusal, match="Playwright, which is not installed here"):
        chromium.check()


def test_a_request_of_a_browser_has_its_cookie_and_no_token() -> None:
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            seen.append(dict(self.headers))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Be silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with Requests(url, None, lambda: Request("GET", "/", cookie="a=b"), connections=1, every_s=0.01) as requests:
            until(lambda: len(seen), "three are sent", holds=lambda count: count >= 3)
        server.shutdown()
    assert {(each["Cookie"], each["Accept"], each.get("Authorization")) for each in seen} == {
        ("a=b", "text/html", None)
    }
    assert requests.take().to_json()["errors"] == 0
