"""Nothing is fetched unasked, nothing from inside the network, nothing twice, nothing without end."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.data import fetch as fetching
from vlm_selfalign.data.cache import VARIABLE, Cache
from vlm_selfalign.data.fetch import fetch, fetched, is_public
from vlm_selfalign.data.jsonl import jsonl
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.media.image import load_image

from .made import encoded, photo

pytestmark = pytest.mark.timeout(60)

PUBLIC = "93.184.215.14"
PICTURE = encoded(photo(1))


@dataclass
class Web:
    """A server on this machine that stands for every public address: it counts who asked for what."""

    answers: dict[str, bytes | Callable[[socket.socket], None]] = field(default_factory=dict)
    """By host and path."""
    names: dict[str, list[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    connected: list[str] = field(default_factory=list)
    encrypted_for: list[str] = field(default_factory=list)
    serving: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(link,), daemon=True).start()

    def _answer(self, link: socket.socket) -> None:
        with suppress(OSError):  # a client that does not like the certificate hangs up
            self._converse(self.serving.wrap_socket(link, server_side=True) if self.serving else link)

    def _converse(self, link: socket.socket) -> None:
        with link:
            request = b""
            while b"\r\n\r\n" not in request:
                if not (part := link.recv(4096)):
                    return
                request += part
            lines = request.decode().split("\r\n")
            host = next(line[6:] for line in lines if line.startswith("Host: "))
            self.asked.append(host + lines[0].split()[1])
            answer = self.answers.get(self.asked[-1], b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            if isinstance(answer, bytes):
                link.sendall(answer)
            else:
                answer(link)

    def resolve(self, host: str) -> list[str]:
        return self.names.get(host, [PUBLIC])

    def connect(self, address: str, seconds: float) -> socket.socket:
        self.connected.append(address)
        return socket.create_connection(self.server.getsockname(), seconds)

    def wrap_socket(self, link: socket.socket, server_hostname: str, suppress_ragged_eofs: bool) -> socket.socket:
        """In place of encryption, which has a test of its own."""
        self.encrypted_for.append(server_hostname)
        return link

    def fetch(self, url: str, **more: Any) -> bytes:
        context: Any = self
        return fetch(url, resolve=self.resolve, connect=self.connect, context=context, **more)


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web({"pictures.test/a.png": ok(PICTURE)})
    yield made
    made.server.close()


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def moved(to: str) -> bytes:
    return b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + to.encode() + b"\r\n\r\n"


def test_a_picture_comes_from_the_address_that_was_checked(web: Web) -> None:
    web.names["pictures.test"] = ["93.184.215.15", PUBLIC]
    assert web.fetch("https://Pictures.test/a.png#part") == PICTURE
    assert web.connected == ["93.184.215.15"]
    assert web.encrypted_for == ["pictures.test"] and web.asked == ["pictures.test/a.png"]


def test_the_next_address_where_the_first_does_not_answer(web: Web) -> None:
    web.names["pictures.test"] = ["93.184.215.15", PUBLIC]

    def connect(address: str, seconds: float) -> socket.socket:
        if address != PUBLIC:
            raise OSError("no route")
        return web.connect(address, seconds)

    context: Any = web
    assert fetch("https://pictures.test/a.png", web.resolve, connect, context) == PICTURE


INNER = [
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"),
    *("2002:7f00:1::", "2002:a00:1::", "2001:0:7f00:1::", "fe80::1", "fe80::1%1", "fec0::1", "fc00::1", "fd12::1"),
    *("ff02::1", "2001:db8::1", "4000::1"),
]


@pytest.mark.parametrize("address", INNER)
def test_inner_addresses_are_refused_without_a_connection(web: Web, address: str) -> None:
    assert not is_public(address)
    web.names["pictures.test"] = [PUBLIC, address]
    with pytest.raises(MediaError, match="leads into a private network"):
        web.fetch("https://pictures.test/a.png")
    assert web.connected == [] and web.asked == []


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", PUBLIC, "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "localhost"])
def test_this_machine_by_its_many_names(host: str) -> None:
    """With the system's own resolver, and a real server that would notice."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        with pytest.raises(MediaError, match=r"leads into a private network|cannot be fetched"):
            fetch(f"https://{host}/a.png")
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://pictures.test/a.png", "not an https address"),
        ("ftp://pictures.test/a.png", "not an https address"),
        ("https://me:secret@pictures.test/a.png", "an address with a password"),
        ("https://pictures.test:22/a.png", "an address with a port of its own"),
        ("https://pictures.test:x/a.png", "cannot be fetched"),
        ("https:///a.png", "an address without a host"),
        ("https://[::1/a.png", "cannot be fetched"),
        ("https://" + "a" * 70 + ".test/", "cannot be fetched"),
    ],
)
def test_odd_addresses(web: Web, url: str, reason: str) -> None:
    with pytest.raises(MediaError) as caught:
        web.fetch(url)
    assert caught.value.reason == reason and web.connected == []


def test_what_is_odd_in_a_path_is_quoted(web: Web) -> None:
    web.answers["pictures.test/caf%C3%A9%20x.png?a=%0D%0AHost:&b=1%20"] = ok(PICTURE)
    assert web.fetch("https://pictures.test/café x.png?a=%0D%0AHost:&b=1%20") == PICTURE
    web.answers["xn--bcher-kva.test/"] = ok(PICTURE)
    assert web.fetch("https://bücher.test") == PICTURE


def test_redirections_are_addresses_like_the_first(web: Web) -> None:
    web.answers |= {
        "pictures.test/1": moved("/2"),
        "pictures.test/2": moved("https://other.test/a.png"),
        "other.test/a.png": ok(PICTURE),
        "pictures.test/inner": moved("https://inner.test/"),
        "pictures.test/plain": moved("http://pictures.test/a.png"),
        "pictures.test/round": moved("/round"),
    }
    web.names["inner.test"] = ["169.254.169.254"]
    assert web.fetch("https://pictures.test/1") == PICTURE
    assert web.asked == ["pictures.test/1", "pictures.test/2", "other.test/a.png"]
    for path, reason in (("inner", "private network"), ("plain", "not an https address"), ("round", "too often")):
        with pytest.raises(MediaError, match=reason):
            web.fetch(f"https://pictures.test/{path}")
    assert len(web.asked) == 3 + 1 + 1 + 4


def drip(link: socket.socket) -> None:
    link.sendall(b"HTTP/1.1 200 OK\r\n")
    try:
        while True:
            link.sendall(b"X-More: x\r\n")
            time.sleep(0.1)
    except OSError:
        pass


def silent(link: socket.socket) -> None:
    time.sleep(2)


def endless(link: socket.socket) -> None:
    link.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    try:
        while True:
            link.sendall(bytes(1 << 16))
    except OSError:
        pass


@pytest.mark.parametrize("slow", [drip, silent])
def test_a_slow_answer_is_cut(web: Web, slow: Callable[[socket.socket], None]) -> None:
    web.answers["pictures.test/slow"] = slow
    begin = time.monotonic()
    with pytest.raises(MediaError) as caught:
        web.fetch("https://pictures.test/slow", seconds=0.5)
    assert caught.value.reason == "took over 0.5 s" and time.monotonic() - begin < 1.9


def test_large_cut_and_failed_answers(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    web.answers |= {
        "pictures.test/large": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nx",
        "pictures.test/endless": endless,
        "pictures.test/cut": ok(PICTURE)[:-10],
        "pictures.test/no": b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n",
        "pictures.test/words": b"no http at all\r\n\r\n",
        "pictures.test/nothing": b"",
    }
    monkeypatch.setattr(fetching, "MAX_BYTES", 1 << 20)
    reasons = {}
    for path in ("large", "endless", "cut", "no", "words", "nothing"):
        with pytest.raises(MediaError) as caught:
            web.fetch(f"https://pictures.test/{path}")
        reasons[path] = caught.value.reason
    assert reasons == {
        "large": "too many bytes",
        "endless": "too many bytes",
        "cut": "cannot be fetched",
        "no": "answered with HTTP status 403",
        "words": "cannot be fetched",
        "nothing": "cannot be fetched",
    }


def test_it_is_fetched_once(web: Web, tmp_path: Path) -> None:
    for _ in range(2):
        with Cache(tmp_path) as cache:
            path = fetched("https://pictures.test/a.png", cache, web.fetch)
            assert Path(path).read_bytes() == PICTURE
            assert fetched("https://pictures.test/a.png", cache, web.fetch) == path
    assert len(web.asked) == 1
    Path(path).write_bytes(PICTURE[:-1])  # rot
    with Cache(tmp_path) as cache:
        assert Path(fetched("https://pictures.test/a.png", cache, web.fetch)).read_bytes() == PICTURE
    assert len(web.asked) == 2
    with pytest.raises(UserError, match=f"urls=true keeps what it fetches.*{VARIABLE}"):
        fetched("https://pictures.test/a.png", Cache(None), web.fetch)


def test_a_manifest_of_addresses(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_failed", {})
    monkeypatch.setattr(fetching, "fetch", web.fetch)
    web.names["inner.test"] = ["10.0.0.1"]
    web.answers["pictures.test/words"] = ok(b"words")
    urls = ["https://pictures.test/a.png", "https://inner.test/a.png", "https://pictures.test/words", "http://x.test/"]
    (tmp_path / "m.jsonl").write_text("".join(f'{{"image": "{url}"}}\n' for url in urls))
    for _ in range(2):
        with pytest.warns(UserWarning, match="3 of 4 left out"):
            listing = jsonl(str(tmp_path / "m.jsonl"), urls=True, max_bad=1)
        assert [one.where for one in listing.refused] == ["m.jsonl:2", "m.jsonl:3", "m.jsonl:4"]
        reasons = [one.reason for one in listing.refused]
        assert reasons[:2] == ["leads into a private network", "not a picture but text"]
        assert reasons[2].startswith("an address, not a path")
    assert web.asked == ["pictures.test/a.png", "pictures.test/words"]
    before = list(web.connected)
    assert load_image(listing[0].prompt.media[0]).size == (96, 64)
    assert web.connected == before  # what was listed is a file
    with pytest.raises(UserError, match=r"an address, not a path; download it first \(urls=true fetches https\)"):
        jsonl(str(tmp_path / "m.jsonl"))
    assert web.connected == before


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_encryption_is_checked_for_the_name(web: Web, tmp_path: Path) -> None:
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=pictures.test"
    make += " -addext subjectAltName=DNS:pictures.test -keyout key.pem -out cert.pem"
    subprocess.run(make.split(), cwd=tmp_path, check=True, capture_output=True)
    web.serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    web.serving.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    web.serving.sni_callback = lambda _link, name, _context: web.encrypted_for.append(str(name))
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    get = partial(fetch, resolve=web.resolve, connect=web.connect)
    assert get("https://pictures.test/a.png", context=trusting) == PICTURE
    assert web.encrypted_for == ["pictures.test"]
    with pytest.raises(MediaError, match="certificate"):
        get("https://others.test/a.png", context=trusting)
    with pytest.raises(MediaError, match="certificate"):
        get("https://pictures.test/a.png")
    assert web.asked == ["pictures.test/a.png"]
