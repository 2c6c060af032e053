import dataclasses
import hashlib
import json
import random
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from frame_transformer.errors import DownloadError
from frame_transformer.hub import CARDS, ModelCard, download, is_cached, mega

from .mega_server import KEY, NONCE, Service, meta_mac

PLAIN = random.Random(0).randbytes(700_001)


@pytest.fixture
def service():
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own, no proxy, and one attempt without waiting."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("FRAME_TRANSFORMER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(mega, "RETRY_SECONDS", ())
    return tmp_path / "cache"


def words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4) for number in numbers)


@pytest.mark.parametrize(
    ("key", "nonce", "plain", "expected"),
    [
        # From the tests of two forks of the library mega.py, where keys and MACs are written as 32-bit words.
        (words(42, 42, 42, 42), words(42, 42), b"", words(0, 0)),
        (words(42, 42, 42, 42), words(42, 42), b"a", words(2360129931, 1443558504)),
        (
            words(0x01234567, 0x89ABCDEF, 0xFEDCBA98, 0x76543210),
            words(0xDEADBEEF, 0xCAFEBABE),
            b"small payload",
            words(915100996, 2671779104),
        ),
    ],
)
def test_mac_of_another_implementation(key, nonce, plain, expected):
    mac = mega.MetaMac(mega.Link("", key, nonce, expected))
    mac.update(plain)
    assert mac.digest() == expected


def test_mac_of_many_chunks():
    plain = random.Random(1).randbytes(6_000_001)  # beyond the eighth chunk, where they stop growing
    mac = mega.MetaMac(mega.Link("", KEY, NONCE, b""))
    for start in range(0, len(plain), 99_991):  # pieces that fit neither blocks nor chunks
        mac.update(plain[start : start + 99_991])
    assert mac.digest() == meta_mac(plain)


@pytest.mark.parametrize("name", ["v1", "v2b"])
def test_links_of_the_cards(name):
    link = mega.parse_link(CARDS[name].url)
    assert [len(part) for part in link] == [8, 16, 8, 8]


@pytest.mark.parametrize(
    "url", ["https://mega.nz/file/C5pGXYYR", "https://mega.nz/folder/a#b", "https://example.org/x"]
)
def test_foreign_links_are_refused(url):
    with pytest.raises(DownloadError, match=re.escape(url)):
        mega.parse_link(url)


@pytest.mark.parametrize("size", [0, 1, 16, 131_072, 131_073, 700_001])
def test_good_file(service, cache, size):
    card = service.offer(PLAIN[:size])
    assert not is_cached(card)
    calls = []
    path = download(card, lambda *call: calls.append(call), api=service.url)
    assert path == cache / "tiny.pth"
    assert path.read_bytes() == PLAIN[:size]
    assert is_cached(card)
    assert calls == sorted(calls)
    assert size == 0 or calls[-1] == (size, size)
    assert not (cache / "tiny.pth.part").exists()
    record = json.loads((cache / "tiny.pth.json").read_text())
    assert record == {"url": card.url, "sha256": hashlib.sha256(PLAIN[:size]).hexdigest()}


def test_the_cached_file_is_used(service):
    card = service.offer(PLAIN)
    path = download(card, api=service.url)
    assert download(card, api=service.url) == path
    assert service.api_calls == 1


@pytest.mark.parametrize("cut", [5, 16, 300_000, 700_000])
def test_truncated_then_resumed_by_the_next_call(service, cache, cut):
    card = service.offer(PLAIN)
    service.cuts = [cut]
    with pytest.raises(DownloadError, match="run the same command again"):
        download(card, api=service.url)
    assert not is_cached(card)
    part = (cache / "tiny.pth.part").read_bytes()
    assert part == PLAIN[: len(part)]
    assert download(card, api=service.url).read_bytes() == PLAIN
    kept = len(part) // 16 * 16
    assert service.asked == [None, f"bytes={kept}-" if kept else None]


def test_truncated_twice_and_resumed_in_one_call(service, monkeypatch):
    monkeypatch.setattr(mega, "RETRY_SECONDS", (0, 0))
    card = service.offer(PLAIN)
    service.cuts = [200_000, 200_000]
    assert download(card, api=service.url).read_bytes() == PLAIN
    assert len(service.asked) == 3


def test_complete_part_needs_no_transfer(service, cache):
    plain = PLAIN[:160_000]
    card = service.offer(plain)
    cache.mkdir()
    (cache / "tiny.pth.part").write_bytes(plain)
    assert download(card, api=service.url).read_bytes() == plain
    assert service.asked == []


def test_server_without_ranges_starts_again(service, cache):
    card = service.offer(PLAIN)
    service.ranges = False
    cache.mkdir()
    (cache / "tiny.pth.part").write_bytes(PLAIN[:300_000])
    assert download(card, api=service.url).read_bytes() == PLAIN
    assert service.asked == ["bytes=300000-"]


@pytest.mark.parametrize("place", [0, 150_000, 700_000])
def test_tampered(service, cache, place):
    card = service.offer(PLAIN)
    changed = bytearray(service.encrypted)
    changed[place] ^= 1
    service.encrypted = bytes(changed)
    with pytest.raises(DownloadError, match="MAC mismatch"):
        download(card, api=service.url)
    assert not is_cached(card)
    assert not (cache / "tiny.pth.part").exists()


def test_damaged_part(service, cache):
    card = service.offer(PLAIN)
    cache.mkdir()
    (cache / "tiny.pth.part").write_bytes(bytes(300_000))
    with pytest.raises(DownloadError, match="MAC mismatch"):
        download(card, api=service.url)
    assert download(card, api=service.url).read_bytes() == PLAIN


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([-9], r"file is gone.*code -9"),
        (-9, r"file is gone.*code -9"),
        ([-16], "taken down"),
        ([-17], "quota"),
        ([{"e": -17}], "quota"),
        ([-2], r"refused \(code -2\)"),
        ([-3], r"busy \(code -3\).*by hand"),
        ([{}], "unexpected response"),
        ("text", "unexpected response"),
    ],
)
def test_refused(service, answer, message):
    card = service.offer(PLAIN)
    service.answers = [answer]
    with pytest.raises(DownloadError, match=message) as caught:
        download(card, api=service.url)
    assert "\n" not in str(caught.value)
    assert service.asked == []


def test_busy_is_tried_again(service, monkeypatch):
    monkeypatch.setattr(mega, "RETRY_SECONDS", (0, 0))
    card = service.offer(PLAIN)
    service.answers = [-3, [-3]]
    assert download(card, api=service.url).read_bytes() == PLAIN


@pytest.mark.parametrize(("status", "message"), [(509, "quota"), (403, "HTTP 403.*again"), (503, "HTTP 503.*again")])
def test_file_server_refuses(service, cache, status, message):
    card = service.offer(PLAIN)
    service.status = status
    cache.mkdir()
    (cache / "tiny.pth.part").write_bytes(PLAIN[:160])
    with pytest.raises(DownloadError, match=message):
        download(card, api=service.url)
    assert (cache / "tiny.pth.part").read_bytes() == PLAIN[:160]


def test_wrong_key_is_found_before_the_transfer(service):
    card = service.offer(PLAIN)
    handle, key = card.url.split("#")
    card = dataclasses.replace(card, url=f"{handle}#{key[::-1]}")
    with pytest.raises(DownloadError, match="key"):
        download(card, api=service.url)
    assert service.asked == []


def test_offline(service):
    card = service.offer(PLAIN)
    service.server_close()
    with pytest.raises(DownloadError, match=r"could not reach 127\.0\.0\.1; check .* `frame-transformer import FILE`"):
        download(card, api=service.url)


def test_cancelled_then_resumed(service, cache):
    class Cancelled(Exception):
        pass

    def cancel(done, total):
        raise Cancelled

    card = service.offer(PLAIN)
    with pytest.raises(Cancelled):
        download(card, cancel, api=service.url)
    assert 0 < (cache / "tiny.pth.part").stat().st_size < len(PLAIN)
    assert download(card, api=service.url).read_bytes() == PLAIN
    assert service.asked[1] is not None


def test_two_at_once_fetch_once(service):
    card = service.offer(PLAIN)
    service.delay = 0.2
    with ThreadPoolExecutor() as pool:
        paths = list(pool.map(lambda _: download(card, api=service.url), range(3)))
    assert len(set(paths)) == len(service.asked) == 1
    assert paths[0].read_bytes() == PLAIN


def test_published_sha256(service, cache):
    card = service.offer(PLAIN)
    wrong = dataclasses.replace(card, sha256="0" * 64)
    with pytest.raises(DownloadError, match="SHA-256"):
        download(wrong, api=service.url)
    assert not is_cached(card)
    assert not (cache / "tiny.pth.part").exists()
    right = dataclasses.replace(card, sha256=hashlib.sha256(PLAIN).hexdigest())
    assert download(right, api=service.url).read_bytes() == PLAIN


def test_damage_in_the_cache_is_found(service):
    card = service.offer(PLAIN)
    path = download(card, api=service.url)
    path.write_bytes(PLAIN[:-1] + b"\0")
    with pytest.raises(DownloadError, match=r"tiny\.pth.*delete it"):
        download(card, api=service.url)


def test_file_placed_by_hand(service, cache):
    card = service.offer(PLAIN)
    cache.mkdir()
    (cache / "tiny.pth").write_bytes(PLAIN)
    assert download(card, api=service.url) == cache / "tiny.pth"
    assert (cache / "tiny.pth.json").exists()
    assert service.api_calls == 0


def test_wrong_file_placed_by_hand(service, cache):
    card = service.offer(PLAIN)
    cache.mkdir()
    (cache / "tiny.pth").write_bytes(b"<html>")
    with pytest.raises(DownloadError, match="not the published file"):
        download(card, api=service.url)
    assert not (cache / "tiny.pth.json").exists()


def test_cache_that_cannot_be_written(service, cache):
    card = service.offer(PLAIN)
    cache.write_text("a file where the folder should be")
    with pytest.raises(DownloadError, match="FRAME_TRANSFORMER_CACHE"):
        download(card, api=service.url)


def test_file_missing_from_the_package():
    card = ModelCard("x", "v1", 1, "", "in the package", "MIT", "no such file.safetensors")
    with pytest.raises(DownloadError, match="install frame-transformer again"):
        download(card)


def test_import_leaves_http_and_cryptography_alone():
    code = "import sys, frame_transformer.hub; assert not {'httpx', 'cryptography', 'filelock'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
