"""Attacks on a real server: nothing leaks, hangs, fills up or prints a traceback (``start_page`` looks for those)."""

import base64
import contextlib
import http.client
import io
import json
import os
import signal
import socket
import struct
import threading
import time
import wave
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from tests.web.conftest import COMMAND
from tests.web.visitor import Visitor

SERVE = """
import json, sys
from frame_transformer.web import Limits, PageOptions, serve
options = json.loads(sys.argv[2])
options["limits"] = Limits(**options["limits"])
serve(PageOptions(models=(sys.argv[1],), **options), "127.0.0.1", 0, lambda at: print("The page is at", at, flush=True))
"""
STALLED_SECONDS = 2
OUTSIDE = "a secret that lies beside the files of the page"


@pytest.fixture(scope="module")
def page(start_page, tiny_file):
    """(address, folder of the page's files): a server with short patience and room for many visitors."""
    limits = {"stalled_seconds": STALLED_SECONDS, "sessions_per_minute": 1000}
    return start_page(SERVE, tiny_file, json.dumps({"jobs": 2, "limits": limits}))


@pytest.fixture
def visitor(page):
    with httpx.Client(base_url=page[0], timeout=120) as client:
        yield Visitor(client)


@pytest.fixture(autouse=True)
def still_well(page, song):
    """After every attack the server works, and keeps no file of those who left."""
    yield
    address, _, process = page
    assert process.poll() is None
    with httpx.Client(base_url=address, timeout=120) as client:
        visitor = Visitor(client)
        assert visitor.separate(visitor.song(song("well.wav")))["state"] == "done"
        client.post(f"{visitor.address}/leave")


def connect(page, source="127.0.0.1", timeout=30):
    parts = urlsplit(page[0])
    return socket.create_connection((parts.hostname, parts.port), timeout, source_address=(source, 0))


def raw(page, method, target, headers=(), body=b"", source="127.0.0.1"):
    """Sends a request as it is, without a client's idea of what an address may look like: (status, headers, body)."""
    host = urlsplit(page[0]).netloc
    fields = {"Host": host, "Content-Length": str(len(body)), "Connection": "close"} | dict(headers)
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{key}: {value}\r\n" for key, value in fields.items() if value)
    with connect(page, source) as connection:
        connection.sendall(head.encode() + b"\r\n" + body)
        answer = http.client.HTTPResponse(connection, method=method)
        answer.begin()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()


def cookie(visitor):
    name = f"session-{visitor.id}"
    return f"{name}={visitor.client.cookies.get(name)}"


def half_request(page, visitor, method, target, size=0, sent=0, receive_buffer=None):
    """A connection on which a request was sent, at least in part, and whose answer was not read."""
    connection = connect(page)
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    head = f"{method} {target} HTTP/1.1\r\nHost: {urlsplit(page[0]).netloc}\r\nCookie: {cookie(visitor)}\r\n"
    connection.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode() + bytes(sent))
    return connection


def half_upload(page, visitor):
    """A connection on which an upload has begun."""
    return half_request(page, visitor, "POST", f"{visitor.address}/songs?name=half.wav", 1_000_000, 20_000)


def stored(page):
    return [
        Path(parent) / name for parent, _, names in os.walk(page[1]) for name in names if name not in ("lock", "secret")
    ]


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


def routes(page):
    description = httpx.get(f"{page[0]}/openapi.json").json()
    return [(method.upper(), path) for path, kinds in description["paths"].items() for method in kinds]


def test_paths_climb_out_of_nowhere(page, visitor, song):
    """Every place of every address is filled with ways out, as it is, encoded once and encoded twice."""
    (page[1] / "secret").write_text(OUTSIDE)
    address = visitor.song(song())
    assert visitor.separate(address)["state"] == "done"
    known = {"session": visitor.id, "song": address.rsplit("/", 1)[1], "track": "mixture.png", "stem": "vocals"}
    ways = [
        *("..", "../..", "../secret", "../../secret", "/etc/passwd", "....//....//secret", "upload", "lock"),
        *("..\\..\\secret", "secret\0.png", "~/secret", "file:///etc/passwd", str(page[1] / "secret"), "\u202e", "%"),
    ]
    tried = 0
    targets = [(method, path, name) for method, path in routes(page) for name in known if f"{{{name}}}" in path]
    for method, path, name in [*targets, ("GET", "/{name}", "name")]:
        for way in ways:
            once = "".join(f"%{byte:02x}" for byte in way.encode())
            for written in (way.replace("\0", "%00").replace("\u202e", "%E2%80%AE"), once, once.replace("%", "%25")):
                target = path.format(**(known | {name: written}))
                status, _, body = raw(page, method, target, {"Cookie": cookie(visitor)})
                assert status in (400, 401, 404, 405, 410, 422), (method, target, status)
                assert OUTSIDE.encode() not in body
                assert b"root:" not in body
                assert str(page[1]).encode() not in body
                tried += 1
    assert tried > 500
    assert (page[1] / "secret").read_text() == OUTSIDE
    visitor.client.post(f"{visitor.address}/leave")


def test_files_of_the_server_cannot_be_named_in_a_request(page, visitor, song):
    address = visitor.song(song())
    file = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    for field in ("models", "ensemble", "stems", "format", "overlap", "weights", "anything"):
        for value in (file, [file], "/etc/passwd", "/dev/zero"):
            answer = visitor.begin(address, **{field: value})
            assert answer.status_code == 422
            # Whether such a file exists makes no difference to the answer.
            missing = visitor.begin(
                address, **{field: json.loads(json.dumps(value).replace("/etc/passwd", "/etc/missing"))}
            )
            assert missing.text.replace("/etc/missing", "/etc/passwd") == answer.text
    for old in ("engine/gradio_api/queue/join", "gradio_api/upload", "upload", "file=/etc/passwd"):
        assert raw(page, "POST", f"/{old}", {"Content-Type": "application/json"}, b'{"data": []}')[0] in (404, 405)
    visitor.client.post(f"{visitor.address}/leave")


def test_odd_names_separate_like_any_other(page, visitor, song):
    names = (
        *("output", "upload", "..", "/", "../../../../tmp/x.wav", "CON", "a" * 900, "\n\r\t", "a\r\nSet-Cookie: b=c"),
        *("-rf", "💥", "\u202efdp.exe", "<script>alert(1)</script>", '"; filename="x', "%2e%2e%2f"),
    )
    before = set(page[1].iterdir())
    path = song(samples=3000)
    for name in names:
        address = visitor.song(path, name)
        assert visitor.separate(address)["state"] == "done"
        answer = visitor.client.get(f"{address}/stems/vocals")
        assert "set-cookie" not in answer.headers
        assert answer.headers["content-disposition"].startswith("attachment; filename")
    archive = zipfile.ZipFile(io.BytesIO(visitor.client.get(f"{visitor.address}/stems.zip").content))
    folders = [entry.split("/")[0] for entry in archive.namelist()]
    assert len(folders) == 2 * len(names)
    assert len(set(folders)) == len(names)
    assert not set(folders) & {"", ".", ".."}
    assert {entry.count("/") for entry in archive.namelist()} == {1}
    visitor.client.post(f"{visitor.address}/leave")
    assert stored(page) == []
    assert set(page[1].iterdir()) == before


def test_uploads_that_are_cut_off_leave_nothing(page, visitor):
    for _ in range(10):
        half_upload(page, visitor).close()
    with half_upload(page, visitor) as connection:  # and one that ends with a reset
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_for(lambda: stored(page) == [])


def test_clients_that_stall_are_dropped(page, visitor):
    """Half uploads, half requests, silence, and uploads that trickle."""
    uploads = [half_upload(page, visitor) for _ in range(25)]
    requests = [connect(page) for _ in range(25)]
    for number, connection in enumerate(requests):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: "[: number * 2])
    trickle = half_upload(page, visitor)
    began = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() - began < 10 * STALLED_SECONDS:
            trickle.sendall(b"0")
            time.sleep(0.1)
    assert time.monotonic() - began < 5 * STALLED_SECONDS
    for connection in (*uploads, *requests):
        connection.settimeout(5 * STALLED_SECONDS)
        with contextlib.suppress(ConnectionError):
            assert connection.recv(1 << 16) in (b"", None) or connection.recv(1 << 16) == b""
        connection.close()
    wait_for(lambda: stored(page) == [])


def test_a_download_that_nobody_reads_is_dropped(page, visitor, song):
    address = visitor.song(song(samples=600_000))
    assert visitor.separate(address, format="wav 32f")["state"] == "done"
    files = stored(page)
    with half_request(page, visitor, "GET", f"{visitor.address}/stems.zip", receive_buffer=65_536) as connection:
        time.sleep(3 * STALLED_SECONDS)
        received = 0
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(1 << 20):
                received += len(piece)
    assert received < len(visitor.client.get(f"{visitor.address}/stems.zip").content)
    assert stored(page) == files  # no half zip among them
    visitor.client.post(f"{visitor.address}/leave")


def test_a_strangers_name_for_this_machine_gets_nothing(page, visitor):
    """DNS rebinding: the page of a stranger whose name was pointed at this machine is of the same origin as ours."""
    strangers = ("evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.0.1")
    for host in (*strangers, "", "[", "a b", "127.0.0.1@evil.example"):
        for method, path in [*routes(page), ("GET", "/"), ("GET", "/page.js"), ("GET", "/openapi.json")]:
            target = path.format(session=visitor.id, song="x", track="x", stem="x")
            status, _, body = raw(page, method, target, {"Host": host, "Cookie": cookie(visitor)})
            assert status in (400, 421), (host, method, target, status)
            assert visitor.id.encode() not in body
    for own in ("localhost", "LOCALHOST:1", "[::1]:80", "127.0.0.1"):
        assert raw(page, "GET", "/", {"Host": own})[0] == 200


def test_other_sites_change_nothing_and_read_nothing(page, visitor):
    own = page[0]
    foreign = ("https://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1", f"{own}.evil.example", "x")
    changing = [route for route in routes(page) if route[0] != "GET"]
    assert len(changing) >= 6
    for method, path in changing:
        target = path.format(session=visitor.id, song="x")
        for origin in foreign:
            assert raw(page, method, target, {"Origin": origin})[0] == 403, (method, path, origin)
        for site in ("cross-site", "same-site"):
            assert raw(page, method, target, {"Sec-Fetch-Site": site})[0] == 403
    assert raw(page, "POST", "/sessions", {"Origin": own, "Sec-Fetch-Site": "same-origin"})[0] == 201
    for method in ("GET", "OPTIONS", "POST"):
        headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        _, answered, _ = raw(page, method, "/settings", headers)
        assert not [name for name in answered if name.startswith("access-control")]
        assert answered["cross-origin-resource-policy"] == "same-origin"
        assert "frame-ancestors 'none'" in answered["content-security-policy"]


def test_guessing_the_password_takes_for_ever(start_page, tiny_file):
    limits = {"guesses_per_minute": 10, "sessions_per_minute": 5}
    page = start_page(SERVE, tiny_file, json.dumps({"password": "7", "limits": limits}))

    def guess(word, source="127.0.0.1", target="/settings", method="GET"):
        token = base64.b64encode(f"me:{word}".encode()).decode()
        return raw(page, method, target, {"Authorization": f"Basic {token}"}, source=source)

    assert raw(page, "GET", "/openapi.json")[0] == 401
    assert guess("7")[0] == 200
    answers = [guess(f"wrong {number}") for number in range(100)]
    assert [status for status, _, _ in answers] == [401] * 10 + [429] * 90
    # Once too many were wrong, the right one is not told from them, but only for that address.
    status, headers, _ = guess("7")
    assert status == 429
    assert 0 < int(headers["retry-after"]) <= 60
    assert guess("7", source="127.0.0.2")[0] == 200
    codes = [guess("7", "127.0.0.2", "/sessions", "POST")[0] for _ in range(10)]
    assert codes == [201] * 5 + [429] * 5
    assert guess("7", "127.0.0.3", "/sessions", "POST")[0] == 201


def test_requests_that_are_no_uploads_are_small(page, visitor, song):
    address = visitor.song(song())
    answer = visitor.begin(address, models=["x" * 1000] * 1000)
    assert answer.status_code == 413
    chunked = visitor.client.post(
        f"{address}/separation", content=iter([b"{" * 100]), headers={"Content-Type": "application/json"}
    )
    assert chunked.status_code == 413
    deep = visitor.client.post(
        f"{address}/separation", content=b"[" * 60_000, headers={"Content-Type": "application/json"}
    )
    assert deep.status_code in (400, 422)
    visitor.client.post(f"{visitor.address}/leave")


def test_small_files_that_would_become_gigabytes(page, visitor, tmp_path):
    """112 kB of 1 Hz in 8 channels took 7 GB."""
    path = tmp_path / "slow.wav"
    for rate, channels, frames in ((1, 8, 7000), (2, 2, 30_000), (16, 2, 65_536), (192_000, 2, 1)):
        with wave.open(str(path), "wb") as file:
            file.setnchannels(channels)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(bytes(2 * channels * frames))
        answer = visitor.upload(path)
        if answer.status_code == 201:
            visitor.separate(f"{visitor.address}/songs/{answer.json()['song']}")
        else:
            assert answer.status_code == 422
    peak = next(line for line in Path(f"/proc/{page[2].pid}/status").read_text().splitlines() if "VmHWM" in line)
    assert int(peak.split()[1]) < 1_500_000, peak
    visitor.client.post(f"{visitor.address}/leave")


def test_twenty_visitors_at_once_each_get_their_own(page, noise, tmp_path):
    def session(number):
        samples = 20_000 + number
        path = tmp_path / f"{number}.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(44_100)
            file.writeframes((noise(1, samples) * 32767).astype("<i2").tobytes())
        with httpx.Client(base_url=page[0], timeout=300) as client:
            visitor = Visitor(client)
            song = visitor.song(path)
            assert visitor.separate(song)["state"] == "done"
            with wave.open(io.BytesIO(client.get(f"{song}/stems/vocals").content)) as stem:
                stem_samples = stem.getnframes()
            sound = np.frombuffer(client.get(f"{song}/tracks/mixture.pcm").content, "<i2")[::2]
            client.post(f"{visitor.address}/leave")
        np.testing.assert_allclose(sound, noise(1, samples)[0] * 32767, atol=2)
        return stem_samples - number

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(session, range(20))) == [20_000] * 20
    wait_for(lambda: stored(page) == [])


def test_downloads_while_songs_are_deleted(page, visitor, song):
    codes = set()
    for _ in range(3):
        address = visitor.song(song(samples=100_000))
        assert visitor.separate(address)["state"] == "done"
        size = len(visitor.client.get(f"{address}/stems/vocals").content)
        go = threading.Barrier(9)

        def download(path, size, go=go):
            go.wait()
            for _ in range(5):
                answer = visitor.client.get(path)
                codes.add(answer.status_code)
                if answer.status_code == 200 and path.endswith("vocals"):
                    assert len(answer.content) == size
                elif answer.status_code == 200 and path.endswith("zip"):
                    assert zipfile.ZipFile(io.BytesIO(answer.content)).testzip() is None

        paths = [f"{address}/stems/vocals", f"{address}/tracks/mixture.pcm", f"{visitor.address}/stems.zip"] * 3
        with ThreadPoolExecutor(9) as pool:
            downloads = [pool.submit(download, path, size) for path in paths[:8]]
            go.wait()
            visitor.client.delete(address)
            for done in downloads:
                done.result()
    assert codes <= {200, 404, 410}


def test_requests_that_make_no_sense_get_an_answer(page, visitor, song):
    address = visitor.song(song())
    assert visitor.separate(address)["state"] == "done"
    for wish in ("bytes=9-1", "bytes=-", "bytes=999999999-", "lines=1", "bytes=" + "0-1," * 5000, "bytes=a-b", "x"):
        status, _, _ = raw(page, "GET", f"{address}/tracks/mixture.pcm", {"Cookie": cookie(visitor), "Range": wish})
        assert status in (200, 206, 400, 416, 431), wish
    for body in (
        b"",
        b"null",
        b"[]",
        b'{"models": 1}',
        b"\xff",
        b'{"models": ["tiny"], "stream": 1e99}',
        b'{"stream": -1}',
    ):
        headers = {"Cookie": cookie(visitor), "Content-Type": "application/json"}
        assert raw(page, "POST", f"{address}/separation", headers, body)[0] in (400, 422), body
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "x", "Sec-WebSocket-Version": "13"}
    assert raw(page, "GET", "/", upgrade)[0] in (200, 400, 426)
    assert raw(page, "POST", f"{visitor.address}/songs?name=", {"Cookie": cookie(visitor)})[0] == 422
    assert raw(page, "POST", f"{visitor.address}/songs?name=x&path=/etc/passwd", {"Cookie": cookie(visitor)})[0] == 422
    assert raw(page, "POST", f"{visitor.address}/songs?name=empty.wav", {"Cookie": cookie(visitor)})[0] == 422
    for number in ("-1", "1e3", "99999999999999999999"):
        assert raw(
            page, "POST", f"{visitor.address}/songs?name=x", {"Cookie": cookie(visitor), "Content-Length": number}
        )[0] in (400, 413)
    for line in (b"\r\n\r\n", b"\x00" * 100, b"GET / HTTP/9.9\r\n\r\n", b"GET " + b"a" * 100_000, b"\x16\x03\x01\x02"):
        with connect(page) as connection, contextlib.suppress(OSError):
            connection.sendall(line)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(100)
    visitor.client.post(f"{visitor.address}/leave")


def test_listeners_that_hang_up_disturb_nobody(page, visitor, song):
    address = visitor.song(song(samples=400_000))
    assert visitor.begin(address).status_code == 202
    for _ in range(20):
        with half_request(page, visitor, "GET", f"{address}/separation/events") as connection:
            connection.recv(10)
    assert visitor.follow(address)[-1]["state"] == "done"
    visitor.client.post(f"{visitor.address}/leave")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_end_in_the_middle_of_everything(start_page, tiny_file, song, number):
    """An upload, a separation and its events are going on, and a download nobody reads."""
    page = start_page(COMMAND, "web", "-n", tiny_file, "--port", 0)
    with httpx.Client(base_url=page[0], timeout=120) as client:
        visitor = Visitor(client)
        done = visitor.song(song("done.wav", samples=400_000))
        assert visitor.separate(done, format="wav 32f")["state"] == "done"
        long = visitor.song(song("long.wav", samples=5_000_000))
        assert visitor.begin(long, tta=True).status_code == 202
        wait_for(lambda: client.get(f"{long}/separation").json()["stage"] in ("reading the song", "separating"))
        upload = half_upload(page, visitor)
        unread = half_request(page, visitor, "GET", f"{visitor.address}/stems.zip", receive_buffer=4096)
        listener = half_request(page, visitor, "GET", f"{long}/separation/events")
        assert listener.recv(12) == b"HTTP/1.1 200"
        began = time.monotonic()
        page[2].send_signal(number)
        code = page[2].wait(30)
        assert time.monotonic() - began < 15
        for connection in (upload, unread, listener):
            connection.close()
    if number == signal.SIGKILL:
        assert stored(page)
        start_page(COMMAND, "web", "-n", tiny_file, "--port", 0, folder=page[1])  # tidies up
        assert stored(page) == []
    else:
        assert code in (-number, 128 + number, 0)
        assert not list(page[1].glob("frame-transformer*"))
