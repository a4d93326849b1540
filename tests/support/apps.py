"""An application of customers on their own machine, as it signs them in: the code flow with PKCE, without a secret."""

from __future__ import annotations

import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from html import unescape
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import httpx

CLIENT: Final = "baraza-app"
CHOICE: Final = re.compile(r'name="request" value="([^"]+)"')
ACTION: Final = re.compile(r'action="([^"]+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """One application, with the verifier that it keeps to itself."""

    http: httpx.Client
    issuer: str
    redirect_uri: str = "http://127.0.0.1:49152/callback"
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    def sign_in_page(self, **changes: str) -> httpx.Response:
        """Open the sign-in page."""
        digest = sha256(self.verifier.encode()).digest()
        query = {
            "response_type": "code", "client_id": CLIENT, "redirect_uri": self.redirect_uri, "state": "s", "nonce": "n",
            "code_challenge": urlsafe_b64encode(digest).rstrip(b"=").decode(), "code_challenge_method": "S256",
        }  # fmt: skip
        endpoint = self.http.get(f"{self.issuer}/.well-known/openid-configuration").json()["authorization_endpoint"]
        return self.http.get(endpoint, params={**query, **changes})

    def answer_of(self, sub: str) -> dict[str, str]:
        """Choose a person, and return what the issuer's answer to the application says."""
        page = self.sign_in_page()
        choice, action = CHOICE.search(page.text), ACTION.search(page.text)
        assert choice is not None, page.text
        assert action is not None, page.text
        url = httpx.URL(self.issuer).join(unescape(action[1]))
        chosen = self.http.post(url, data={"request": unescape(choice[1]), "sub": sub})
        assert chosen.status_code == 303, chosen.text
        location = chosen.headers["location"]
        assert location.startswith(f"{self.redirect_uri}?")
        return dict(parse_qsl(urlsplit(location).query))

    def exchange(self, answer: Mapping[str, str], **changes: str) -> dict[str, Any]:
        """Return what the token endpoint answers to a code."""
        form = {
            "grant_type": "authorization_code", "client_id": CLIENT, "code": answer["code"],
            "redirect_uri": self.redirect_uri, "code_verifier": self.verifier,
        }  # fmt: skip
        found: dict[str, Any] = self.http.post(f"{self.issuer}/oauth/token", data={**form, **changes}).json()
        return found

    def sign_in(self, sub: str) -> dict[str, Any]:
        """Return the tokens of a person."""
        return self.exchange(self.answer_of(sub))
