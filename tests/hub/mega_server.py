"""A server on the loopback that speaks the protocol of mega.nz, with its own plain implementation of the encryption."""

import base64
import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from frame_transformer.hub import ModelCard

KEY = bytes(range(1, 17))
NONCE = bytes(range(0xF0, 0xF8))
HANDLE = "C5pGXYYR"


aes = Cipher(algorithms.AES(KEY), modes.ECB()).encryptor().update  # each block of 16 bytes by itself


def xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left) ^ int.from_bytes(right)).to_bytes(len(left))


def encrypt(plain: bytes) -> bytes:
    counters = b"".join(NONCE + i.to_bytes(8) for i in range(len(plain) // 16 + 1))
    return xor(plain, aes(counters)[: len(plain)])


def meta_mac(plain: bytes) -> bytes:
    total, start, kib = bytes(16), 0, 128
    while start < len(plain):
        chunk = plain[start : start + kib * 1024]
        start, kib = start + len(chunk), min(kib + 128, 1024)
        mac = NONCE + NONCE
        for i in range(0, len(chunk), 16):
            mac = aes(xor(mac, chunk[i : i + 16].ljust(16, b"\0")))
        total = aes(xor(total, mac))
    return xor(total[:4], total[4:8]) + xor(total[8:12], total[12:])


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Service(ThreadingHTTPServer):
    """What it answers is set by its attributes; what it was asked is kept."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.answers: list[object] = []  # of the API, before the good one
        self.cuts: list[int] = []  # bytes after which the next transfers break off
        self.status = 0  # of the file server, where it refuses
        self.ranges = True
        self.delay = 0.0
        self.asked: list[str | None] = []  # the Range header of each transfer
        self.api_calls = 0

    def offer(self, plain: bytes) -> ModelCard:
        self.plain, self.encrypted = plain, encrypt(plain)
        tail = NONCE + meta_mac(plain)
        link = f"https://mega.nz/file/{HANDLE}#{b64(xor(KEY, tail) + tail)}"
        return ModelCard("tiny", "v1", 1, "a test file", "mega.nz", "MIT", "tiny.pth", link)


class Handler(BaseHTTPRequestHandler):
    server: Service

    def log_message(self, *_) -> None:
        pass

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])

    def do_POST(self) -> None:
        service = self.server
        service.api_calls += 1
        (request,) = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/cs"
        if service.answers:
            answer = service.answers.pop(0)
        elif (request["a"], request["g"], request["p"]) != ("g", 1, HANDLE):
            answer = [-9]
        else:
            attributes = b'MEGA{"n":"tiny.pth"}'.ljust(32, b"\0")
            secret = Cipher(algorithms.AES(KEY), modes.CBC(bytes(16))).encryptor().update(attributes)
            answer = [{"s": len(service.encrypted), "at": b64(secret), "g": f"{service.url}/dl/temporary"}]
        self.reply(200, json.dumps(answer).encode())

    def do_GET(self) -> None:
        service = self.server
        wanted = self.headers["Range"]
        service.asked.append(wanted)
        time.sleep(service.delay)
        if service.status:
            return self.reply(service.status, b"")
        cut = service.cuts.pop(0) if service.cuts else None
        if wanted and service.ranges:
            start, size = int(wanted.removeprefix("bytes=").rstrip("-")), len(service.encrypted)
            content_range = {"Content-Range": f"bytes {start}-{size - 1}/{size}"}
            return self.reply(206, service.encrypted[start:], content_range, cut)
        return self.reply(200, service.encrypted, cut=cut)
