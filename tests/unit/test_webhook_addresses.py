"""Which addresses of merchants' endpoints are called, and which never are."""

from __future__ import annotations

import random
from ipaddress import IPv6Network, ip_network

import pytest

from notifier.model.addresses import FORBIDDEN, URL_LENGTH_MAX, ForbiddenAddress, ForbiddenUrl, Rules, networks

RULES = Rules()
LOCAL = Rules(allows_loopback=True)
PUBLIC = ("1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e")
PRIVATE = (
    "0.0.0.0", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254",
    "168.63.129.16", "169.254.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1",
    "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255",
    "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::8.8.8.8", "64:ff9b:1::a00:1", "100::1", "2001::1",
    "2001:0:53aa:64c:0:0:0:1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1",
    "3fff::1", "4000::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
    "ff0e::1", "2606:4700:4700::1111%eth0", "example.com", "",
)  # fmt: skip


def is_refused(address: str) -> bool:
    try:
        RULES.check([address])
    except ForbiddenAddress:
        return True
    return False


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_called(address: str) -> None:
    RULES.check([address])


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_never_called(address: str) -> None:
    with pytest.raises(ForbiddenAddress, match="not public"):
        RULES.check([address])


@pytest.mark.parametrize("address", PRIVATE)
def test_one_such_address_among_public_ones_is_enough_to_refuse_a_name(address: str) -> None:
    with pytest.raises(ForbiddenAddress):
        RULES.check(["8.8.8.8", address])
    with pytest.raises(ForbiddenAddress):
        RULES.check([address, "2606:4700:4700::1111"])


def test_a_name_without_an_address_is_refused() -> None:
    with pytest.raises(ForbiddenAddress, match="no address"):
        RULES.check([])


def test_every_address_of_every_forbidden_network_is_refused() -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    for network, _ in FORBIDDEN:
        first = int(network.network_address)
        for _ in range(50):
            offset = chance.randrange(network.num_addresses)
            address = str(type(network.network_address)(first + offset))
            assert is_refused(address), f"{address} of {network} may be called; seed {seed}"


def test_whatever_is_embedded_in_ipv6_is_refused_with_a_random_ipv4_address() -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    for prefix in ("::/96", "::ffff:0:0/96", "64:ff9b::/96", "2002::/16"):
        network = ip_network(prefix)
        assert isinstance(network, IPv6Network)
        for _ in range(200):
            shift = 80 if prefix.startswith("2002") else 0
            address = network.network_address + (chance.randrange(2**32) << shift)
            assert is_refused(str(address)), f"{address} may be called; seed {seed}"


def test_a_deployments_own_networks_are_refused_as_well() -> None:
    own = Rules(forbidden=networks(" 8.8.8.0/24,2606:4700::/32,"))
    for address in ("8.8.8.8", "2606:4700:4700::1111"):
        with pytest.raises(ForbiddenAddress, match="of this deployment"):
            own.check([address])
    own.check(["8.8.4.4"])
    with pytest.raises(ValueError, match="odd"):
        networks("10.0.0.0/8,odd")


def test_loopback_is_called_only_where_a_setting_allows_it_and_nothing_else_with_it() -> None:
    LOCAL.check(["127.0.0.1", "::1"])
    for address in set(PRIVATE) - {"127.0.0.1", "127.255.255.254", "::1"}:
        with pytest.raises(ForbiddenAddress):
            LOCAL.check([address])


@pytest.mark.parametrize("is_live", [True, False])
@pytest.mark.parametrize(
    ("url", "port"),
    [("https://example.com/hooks?a=b", 443), ("https://example.com:8443", 8443), ("https://[2606:4700::1]/", 443)],
)
def test_https_at_its_ports_is_accepted(url: str, port: int, is_live: bool) -> None:
    target = RULES.target(url, is_live=is_live)
    assert (target.port, target.is_https) == (port, True)


@pytest.mark.parametrize("is_live", [True, False])
@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://example.com/", "https"),
        ("http://127.0.0.1/", "https"),
        ("ftp://example.com/", "Not a URL"),
        ("file:///etc/passwd", "Not a URL"),
        ("gopher://example.com/", "Not a URL"),
        ("https://", "Not a URL"),
        ("//example.com/", "Not a URL"),
        ("example.com", "Not a URL"),
        ("https://user@example.com/", "user"),
        ("https://user:password@example.com/", "user"),
        ("https://example.com@127.0.0.1/", "user"),
        ("https://example.com/#part", "fragment"),
        ("https://example.com:22/", "port"),
        ("https://example.com:6379/", "port"),
        ("https://example.com:80/", "port"),
        ("https://example.com:99999/", "Not a URL"),
        ("https://exämple.com/", "character"),
        ("https://example.com/a b", "character"),
        ("https://example.com\\@127.0.0.1/", "character"),
        ("https://example.com/\r\nX: y", "character"),
        ("https://example.com/\0", "character"),
        ("https://[::1/", "Not a URL"),
        ("https://example.com/" + "a" * URL_LENGTH_MAX, "more than"),
    ],
)
def test_any_other_address_is_refused_with_the_reason(url: str, why: str, is_live: bool) -> None:
    with pytest.raises(ForbiddenUrl, match=why):
        RULES.target(url, is_live=is_live)


def test_loopback_by_http_is_for_test_mode_alone_where_a_setting_allows_it() -> None:
    for host in ("127.0.0.1", "localhost", "[::1]"):
        assert LOCAL.target(f"http://{host}:8080/", is_live=False).port == 8080
        with pytest.raises(ForbiddenUrl):
            LOCAL.target(f"http://{host}:8080/", is_live=True)
        assert LOCAL.target(f"https://{host}:8080/", is_live=True).port == 8080
    for url in ("http://example.com/", "https://example.com:8080/", "http://10.0.0.1/"):
        with pytest.raises(ForbiddenUrl):
            LOCAL.target(url, is_live=False)
