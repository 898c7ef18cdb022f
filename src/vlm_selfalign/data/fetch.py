"""Pictures from the web, where a user has allowed it: each address once, and never from inside the user's network.

What a manifest of strangers may ask for is bounded: https only; every address a name resolves to must be public, and
the connection goes to the very address that was checked; each redirection is an address like the first; size and time
have limits. No cookies, no passwords, no proxies. What was fetched is kept by its content in the cache folder, and
from then on it is a file like any other: training and measuring never touch the network.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache as remembered
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Timer
from typing import NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.seeds import digest_bytes, digest_file
from vlm_selfalign.data.cache import VARIABLE, Cache
from vlm_selfalign.media.errors import MediaError

MAX_BYTES = 20 << 20
"""The most bytes of a picture from the web."""

SECONDS = 20.0
"""The most time for one, redirections included (resolving names has the system's own limits)."""

REDIRECTIONS = 3

_EMBEDDING = ipaddress.ip_network("64:ff9b::/96")  # NAT64: an IPv4 address in its last 32 bits

Resolve = Callable[[str], list[str]]
Connect = Callable[[str, float], socket.socket]


class Place(NamedTuple):
    """Where a picture is asked for."""

    url: str
    host: str
    target: str


def fetched(url: str, cache: Cache, fetch: Callable[[str], bytes] | None = None) -> str:
    """The file that holds what is at a URL, fetched only if no run did before. Raises ``MediaError``.

    ``UserError`` where the cache is switched off or its folder cannot be written.
    """
    if cache.folder is None:
        raise UserError(f"urls=true keeps what it fetches: unset {VARIABLE}, or name a folder there")
    folder = cache.folder / "fetched"
    known = cache.get("url", url)
    if known and (path := folder / known.hex()).is_file() and digest_file(path) == known.hex():
        return str(path)
    data = (fetch or fetch_once)(url)
    name = digest_bytes(data)
    _keep(data, folder / name)
    cache.put(bytes.fromhex(name), "url", url)
    cache.flush()
    return str(folder / name)


_failed: dict[str, MediaError] = {}


def fetch_once(url: str) -> bytes:
    """As ``fetch``, but what failed in this process is not tried again: one run lists its source several times."""
    if url in _failed:
        raise _failed[url]
    try:
        return fetch(url)
    except MediaError as error:
        _failed[url] = error
        raise


def addresses(host: str) -> list[str]:
    """All addresses of a name, by the system's resolver. Raises ``OSError``."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)]


def connect(address: str, seconds: float) -> socket.socket:
    """A connection to port 443. Raises ``OSError``."""
    return socket.create_connection((address, 443), seconds)


def fetch(
    url: str,
    resolve: Resolve = addresses,
    connect: Connect = connect,
    context: ssl.SSLContext | None = None,
    seconds: float = SECONDS,
) -> bytes:
    """What is at an https URL. Raises ``MediaError`` for every refusal and failure.

    Args:
        url: The URL; others than https, with a password or another port are refused.
        resolve: Gives all addresses of a host name.
        connect: Opens a connection to one address.
        context: Which certificates are trusted; the system's by default.
        seconds: The most time.
    """
    end, asked = time.monotonic() + seconds, url
    context = context or _trusted()
    try:
        for _ in range(REDIRECTIONS + 1):
            place = _place(asked)
            found = _exchange(place, _checked(place, resolve), connect, context, end)
            if isinstance(found, bytes):
                return found
            asked = urljoin(asked, found)
    except (OSError, HTTPException, ValueError) as error:
        reason = f"took over {seconds:g} s" if time.monotonic() >= end else "cannot be fetched"
        raise MediaError(url, reason, "open", f"{type(error).__name__}: {error}".split("\n")[0][:200]) from error
    raise MediaError(url, "redirected too often", "open")


@remembered
def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context()


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet, whatever other notation it is wrapped in."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in _EMBEDDING:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner:
            return is_public(str(inner))
        if found.is_site_local or found.is_reserved:
            return False
    return found.is_global and not found.is_multicast


def _place(url: str) -> Place:
    parts = urlsplit(url)
    if parts.scheme != "https":
        raise MediaError(url, "not an https address", "open")
    if parts.username is not None or parts.password is not None:
        raise MediaError(url, "an address with a password", "open")
    if parts.port not in (None, 443):
        raise MediaError(url, "an address with a port of its own", "open")
    if not parts.hostname:
        raise MediaError(url, "an address without a host", "open")
    host = parts.hostname if ":" in parts.hostname else parts.hostname.encode("idna").decode("ascii")
    query = f"?{parts.query}" if parts.query else ""
    return Place(url, host, quote((parts.path or "/") + query, safe="/?&=%:@!$'()*+,;~-._[]"))


def _checked(place: Place, resolve: Resolve) -> list[str]:
    """All addresses of a host; one that is not public refuses them all, since a name's owner chooses the order."""
    found = resolve(place.host)
    inner = [address for address in found if not is_public(address)]
    if inner:
        raise MediaError(place.url, "leads into a private network", "open", f"{place.host} is {inner[0]}")
    if not found:
        raise MediaError(place.url, "no such host", "open", place.host)
    return found


def _exchange(place: Place, found: list[str], connect: Connect, context: ssl.SSLContext, end: float) -> bytes | str:
    """The content, or where to go for it."""
    with _connected(found, connect, end) as raw, _until(end, raw):
        # Without an end that is signed, a cut answer of unknown length would pass as a whole one.
        link = context.wrap_socket(raw, server_hostname=place.host, suppress_ragged_eofs=False)
        with link:
            conversation = HTTPConnection(place.host, 80)  # the port it leaves unsaid in ``Host``; it connects to none
            conversation.sock = link
            headers = {"User-Agent": "vlm-selfalign", "Accept": "image/*", "Connection": "close"}
            conversation.request("GET", place.target, headers=headers)
            with conversation.getresponse() as response:
                return _answer(place, response)


def _answer(place: Place, response: HTTPResponse) -> bytes | str:
    if response.status in (301, 302, 303, 307, 308) and response.headers["Location"]:
        return response.headers["Location"]
    if response.status != 200:
        raise MediaError(place.url, f"answered with HTTP status {response.status}", "open")
    data = b"" if (response.length or 0) > MAX_BYTES else response.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES or (response.length or 0) > MAX_BYTES:
        raise MediaError(place.url, "too many bytes", "open", f"at most {MAX_BYTES:,}")
    if response.length:
        raise OSError(f"cut {response.length:,} bytes before its end")
    return data


def _connected(found: list[str], connect: Connect, end: float) -> socket.socket:
    for place, address in enumerate(found):
        try:
            return connect(address, max(0.1, end - time.monotonic()))
        except OSError:
            if place == len(found) - 1:
                raise
    raise AssertionError("no address")


@contextmanager
def _until(end: float, link: socket.socket) -> Iterator[None]:
    """Cut the connection at a moment: a server that sends a byte now and then keeps every other limit waiting."""
    twin = link.dup()  # the connection itself is handed on to the encryption, and closed under its number
    timer = Timer(max(0.0, end - time.monotonic()), _cut, (twin,))
    timer.daemon = True
    timer.start()
    try:
        yield
        if time.monotonic() >= end:  # a connection that was cut may look like one that ended
            raise TimeoutError("cut")
    finally:
        timer.cancel()
        timer.join()
        twin.close()


def _cut(link: socket.socket) -> None:
    with suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)


def _keep(data: bytes, path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
            file.write(data)
        os.replace(file.name, path)
    except OSError as error:
        raise UserError(f"{path.parent}: {error.strerror}: make room, or name another folder in {VARIABLE}") from None
