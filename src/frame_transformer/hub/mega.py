"""Downloads, decrypts and verifies files behind public mega.nz links.

The format is that of the "MEGA Security White Paper" (https://mega.nz/SecurityWhitepaper.pdf, file encryption): the
fragment of a link encodes 256 bits: the AES-128 key, the nonce of the counter mode and a MAC of the decrypted file.
"""

import base64
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from ..errors import DownloadError

if TYPE_CHECKING:
    import httpx
    from cryptography.hazmat.primitives.ciphers import CipherContext

API = "https://g.api.mega.co.nz"
RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0)  # between attempts, if the service is busy or the connection breaks

_BLOCK = 1 << 18
_KIB = 1024
_BUSY = {-3, -4, -18, -19}
_OVER_QUOTA = "the transfer quota for this network address is used up: wait a few hours and run the same command again"
_REFUSALS = {
    -6: "too many people are downloading this file",
    -8: "the link has expired",
    -9: "the file is gone, or the link is wrong",
    -11: "access to the file is denied",
    -16: "the file has been taken down",
    -17: _OVER_QUOTA,
}

Progress = Callable[[int, int], None]


class _TransientError(DownloadError):
    """An error after which another attempt may succeed."""


class Link(NamedTuple):
    """A parsed public link: the AES key (16 bytes), nonce (8 bytes) and MAC of the decrypted file (8 bytes)."""

    handle: str
    key: bytes
    nonce: bytes
    mac: bytes


def parse_link(url: str) -> Link:
    """Parses a link of the form ``https://mega.nz/file/HANDLE#KEY``.

    Raises:
        DownloadError: the link has another form.
    """
    match = re.fullmatch(r"https://mega\.nz/file/([\w-]+)#([\w-]{43})", url, re.ASCII)
    if match is None:
        raise DownloadError(f"{url}: not a public mega.nz file link with its key")
    secret = base64.urlsafe_b64decode(match[2] + "=")
    key = bytes(low ^ high for low, high in zip(secret[:16], secret[16:], strict=True))
    return Link(match[1], key, nonce=secret[16:24], mac=secret[24:])


class MetaMac:
    """The MAC of a decrypted file, updated block by block.

    Each chunk (128 KiB, 256 KiB, …, 1 MiB from the eighth on) has a CBC-MAC. Another CBC-MAC is taken of these, and
    each of its halves is reduced to 4 bytes by XOR.
    """

    def __init__(self, link: Link) -> None:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        self._encryptor = lambda iv: Cipher(algorithms.AES(link.key), modes.CBC(iv)).encryptor()
        self._chunk_iv = link.nonce * 2
        self._chunk: CipherContext | None = None
        self._chunk_size = self._filled = 0
        self._chunk_mac = self._total = bytes(16)
        self._over_chunks = self._encryptor(bytes(16))

    def update(self, data: bytes) -> None:
        """Adds the next bytes of the decrypted file."""
        rest = memoryview(data)
        while rest:
            if self._chunk is None:
                self._chunk = self._encryptor(self._chunk_iv)
                self._chunk_size, self._filled = min(self._chunk_size + 128 * _KIB, 1024 * _KIB), 0
            piece, rest = rest[: self._chunk_size - self._filled], rest[self._chunk_size - self._filled :]
            # Less than a block of 16 bytes gives no output yet; it stays in the encryptor.
            self._chunk_mac = self._chunk.update(piece)[-16:] or self._chunk_mac
            self._filled += len(piece)
            if self._filled == self._chunk_size:
                self._close_chunk(self._chunk)

    def digest(self) -> bytes:
        """The 8 bytes of the MAC. No data can be added afterwards."""
        if self._chunk is not None:
            self._close_chunk(self._chunk)
        return bytes(self._total[i] ^ self._total[i + 4] for i in (0, 1, 2, 3, 8, 9, 10, 11))

    def _close_chunk(self, chunk: "CipherContext") -> None:
        if padding := -self._filled % 16:
            self._chunk_mac = chunk.update(bytes(padding))
        self._total = self._over_chunks.update(self._chunk_mac)
        self._chunk = None


def matches(path: Path, url: str) -> bool:
    """Whether a decrypted file matches the MAC in the link."""
    link = parse_link(url)
    with path.open("rb") as file:
        return _mac_so_far(file, link).digest() == link.mac


def fetch(url: str, part: Path, progress: Progress | None = None, api: str = API) -> None:
    """Downloads the file behind a link, decrypts it and checks its MAC.

    Args:
        url: public link with its key.
        part: path to write the decrypted file to; an interrupted download is resumed from what it contains.
        progress: called with (bytes done, total bytes). An exception from it stops the transfer and keeps ``part``.
        api: base address of the service.

    Raises:
        DownloadError: the service cannot be reached, refuses, or sent a file that does not match its MAC; ``part`` is
            removed in the last case.
    """
    import httpx

    link = parse_link(url)
    by_hand = f"download {url} by hand and use `frame-transformer import FILE`"
    with httpx.Client(timeout=30, follow_redirects=True) as client:
        for wait in (*RETRY_SECONDS, None):
            try:
                size, source = _ask(client, link, api)
                mac = _transfer(client, source, size, link, part, progress)
                break
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
                host = error.request.url.host
                raise DownloadError(f"could not reach {host}; check the connection or {by_hand}") from error
            except (httpx.TransportError, _TransientError) as error:
                if wait is None:
                    reason = str(error) or type(error).__name__
                    raise DownloadError(
                        f"mega.nz: {reason}; run the same command again to resume, or {by_hand}"
                    ) from error
                time.sleep(wait)
    if mac != link.mac:
        part.unlink()
        raise DownloadError(
            f"mega.nz: the downloaded file does not match {url} (MAC mismatch); it was removed, try again"
        )


def _ask(client: "httpx.Client", link: Link, api: str) -> tuple[int, str]:
    """The size of a file in bytes and the temporary address of its encrypted contents."""
    request = [{"a": "g", "g": 1, "p": link.handle, "ssl": 2}]  # ssl 2 asks for an https address
    response = client.post(f"{api}/cs", json=request)
    if response.status_code >= 500:
        raise _TransientError(f"the service answered HTTP {response.status_code}")
    try:
        answer = response.json()
    except ValueError as error:
        raise DownloadError(f"mega.nz: unexpected response, HTTP {response.status_code}") from error
    if isinstance(answer, list) and answer:
        answer = answer[0]
    if isinstance(answer, dict) and "g" not in answer:
        answer = answer.get("e")
    match answer:
        case {"s": int(size), "at": str(attributes), "g": str(source)}:
            _check_key(attributes, link)
            return size, source
        case int(code) if code in _BUSY:
            raise _TransientError(f"the service is busy (code {code})")
        case int(code):
            raise DownloadError(f"mega.nz: {_REFUSALS.get(code, 'the service refused')} (code {code})")
    raise DownloadError("mega.nz: unexpected response")


def _check_key(attributes: str, link: Link) -> None:
    """Raises DownloadError if the key is wrong: decrypted attributes start with a magic word."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    first = base64.urlsafe_b64decode(attributes + "=" * (-len(attributes) % 4))[:16]
    if not Cipher(algorithms.AES(link.key), modes.CBC(bytes(16))).decryptor().update(first).startswith(b"MEGA"):
        raise DownloadError(f"mega.nz: the key in the link does not open file {link.handle}")


def _transfer(
    client: "httpx.Client", source: str, size: int, link: Link, part: Path, progress: Progress | None
) -> bytes:
    """Downloads the rest of ``part`` and returns the MAC of the whole decrypted file."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    with part.open("a+b") as file:
        done = min(file.tell(), size) // 16 * 16  # whole AES blocks, so that the counter can be set
        file.truncate(done)
        mac = _mac_so_far(file, link)
        if done == size:
            return mac.digest()
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
        with client.stream("GET", source, headers=headers) as response:
            if response.status_code == 509:
                raise DownloadError(f"mega.nz: {_OVER_QUOTA} (HTTP 509)")
            if response.status_code not in (200, 206):  # 403 or 404: the temporary address has expired
                raise _TransientError(f"the file server answered HTTP {response.status_code}")
            if response.status_code == 200 and done:  # the server does not support ranges: start again
                done, mac = 0, MetaMac(link)
                file.truncate(0)
            counter = link.nonce + (done // 16).to_bytes(8, "big")
            decryptor = Cipher(algorithms.AES(link.key), modes.CTR(counter)).decryptor()
            for block in response.iter_raw():
                plain = decryptor.update(block)
                file.write(plain)
                mac.update(plain)
                done += len(plain)
                if progress is not None:
                    progress(done, size)
                if done > size:
                    break
    if done < size:
        raise _TransientError(f"the connection ended after {done} of {size} bytes")
    return mac.digest()


def _mac_so_far(file: IO[bytes], link: Link) -> MetaMac:
    mac = MetaMac(link)
    file.seek(0)
    while block := file.read(_BLOCK):
        mac.update(block)
    return mac
