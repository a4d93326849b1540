"""Which addresses may be called on a merchant's behalf: public ones alone.

A merchant chooses the address, and this service stands inside. So nothing inside may be reached through it: not by an
address, not by a name that leads to one, and not by a name that leads there a moment later.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

URL_LENGTH_MAX: Final = 2_048
PORTS: Final = frozenset({443, 8443})
"""The ports of HTTPS. Any other one may be of a service that takes a request for something else."""
HTTPS_PORT, HTTP_PORT = 443, 80

FORBIDDEN: Final = tuple(
    (ip_network(network), why)
    for network, why in (
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier; some clouds' metadata"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "a cloud's own server"),
        ("169.254.0.0/16", "link-local; most clouds' metadata"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "of protocols; a cloud's metadata"),
        ("192.0.2.0/24", "for documentation"),
        ("192.31.196.0/24", "AS112"),
        ("192.52.193.0/24", "AMT"),
        ("192.88.99.0/24", "6to4's relays"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "AS112"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved, with the broadcast"),
        ("::/96", "unspecified, loopback, or IPv4-compatible"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("::ffff:0:0:0/96", "IPv4-translated"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64 of a network's own"),
        ("100::/64", "discarded"),
        ("2001::/23", "of protocols, with Teredo and ORCHID"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "6to4"),
        ("2620:4f:8000::/48", "AS112"),
        ("3fff::/20", "for documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "unique-local, with a cloud's metadata"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
"""IANA's special-purpose registries, and addresses of clouds. IPv4 within IPv6 is refused whatever it is: it would
reach an IPv4 address that nothing has checked."""
UNICAST: Final = ip_network("2000::/3")
"""All of IPv6 that is assigned to the public. What lies outside is refused without a reason of its own."""


def networks(listed: str) -> tuple[Network, ...]:
    """Return networks of which the texts stand between commas. Raises ValueError for one that is none."""
    return tuple(ip_network(each.strip()) for each in listed.split(",") if each.strip())


class ForbiddenUrl(ValueError):
    """An endpoint's address that is never called. The text says why, and may be shown to the merchant."""


class ForbiddenAddress(Exception):
    """A name leads to an address that is never called. The text says why, and may be shown to the merchant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An endpoint's address, taken apart once, by the parser of the client that calls it."""

    url: Url
    host: str
    port: int
    is_https: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What may be called. ``allows_loopback`` is for tests and simulators: loopback at any port, in test mode by HTTP.

    ``forbidden`` are further networks: a deployment's own public addresses.
    """

    allows_loopback: bool = False
    forbidden: tuple[Network, ...] = ()

    def target(self, url: str, *, is_live: bool) -> Target:
        """Return what an endpoint's address means. Raises ForbiddenUrl for one that is never called."""
        parsed = _parsed(url)
        host = (parsed.host or "").strip("[]")
        if parsed.auth is not None:
            raise ForbiddenUrl("The address has a user in it; leave it out")
        if parsed.fragment is not None:
            raise ForbiddenUrl("The address has a fragment, which is never sent; leave it out")
        is_https = parsed.scheme == "https"
        is_local = self.allows_loopback and _is_loopback(host)
        if not is_https and not (is_local and not is_live and parsed.scheme == "http"):
            raise ForbiddenUrl("The address must begin with https://")
        port = parsed.port or (HTTPS_PORT if is_https else HTTP_PORT)
        if port not in PORTS and not is_local:
            raise ForbiddenUrl(f"The address has another port than {' or '.join(map(str, sorted(PORTS)))}")
        return Target(url=parsed, host=host, port=port, is_https=is_https)

    def check(self, addresses: Iterable[str]) -> None:
        """Raise ForbiddenAddress where one of a name's addresses must not be called, or there is none."""
        found = list(addresses)
        if not found:
            raise ForbiddenAddress("The name has no address")
        for text in found:
            why = self._refusal(text)
            if why is not None:
                raise ForbiddenAddress(f"The name leads to an address that is not public ({why})")

    def _refusal(self, text: str) -> str | None:
        """Return why an address is refused; None where it may be called."""
        try:
            address = ip_address(text)
        except ValueError:
            return "not an address"
        if self.allows_loopback and address.is_loopback:
            return None
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            return "of one link"
        if any(address in network for network in self.forbidden):
            return "of this deployment"
        return _why_special(address)


def _why_special(address: Address) -> str | None:
    for network, why in FORBIDDEN:
        if address in network:
            return why
    if isinstance(address, IPv6Address) and address not in UNICAST:
        return "not assigned"
    # The table is ours to keep; what a newer Python knows counts as well.
    return None if address.is_global and not address.is_multicast else "special"


def _parsed(url: str) -> Url:
    if len(url) > URL_LENGTH_MAX:
        raise ForbiddenUrl(f"The address has more than {URL_LENGTH_MAX} characters")
    if not (url.isascii() and url.isprintable()) or any(letter in url for letter in ' \\"<>^`{|}'):
        raise ForbiddenUrl("The address has a character that stands in no URL; encode it")
    try:
        parsed = parse_url(url)
    except LocationParseError as error:
        raise ForbiddenUrl("Not a URL; send one such as https://example.com/webhooks") from error
    if not parsed.host or parsed.scheme not in ("http", "https"):
        raise ForbiddenUrl("Not a URL; send one such as https://example.com/webhooks")
    return parsed


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
