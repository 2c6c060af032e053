"""Checks of every request: host name, origin and password."""

import base64
import ipaddress
import math
import re
import secrets
from collections.abc import Iterable
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .limits import RefusedError, Throttle, network

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]+))(?::\d+)?", re.IGNORECASE)
READING = ("GET", "HEAD")
MAX_BODY = 1 << 16  # bytes of a request other than an upload
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def error_response(error: RefusedError) -> JSONResponse:
    """The response to a refused request."""
    headers = {"Retry-After": str(math.ceil(error.wait))} if error.wait else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="Frame Transformer: any name and the password", charset="UTF-8"'
    return JSONResponse({"error": str(error)}, error.status, headers)


class Guard:
    """ASGI middleware that refuses invalid requests and adds security headers to every response.

    Args:
        app: the wrapped application.
        hosts: host names and addresses that the page answers to, in addition to those of the loopback device. All other
            names are refused: an attacker can make a name of their own resolve to this machine (DNS rebinding), and
            their page would count as the same origin. If the page listens on all addresses ("0.0.0.0" or "::"), it
            answers to every literal address, which cannot be rebound.
        password: None for no password.
        guesses: limit of wrong passwords.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], password: str | None, guesses: Throttle):
        self.app = app
        self._hosts = {host.lower() for host in (*LOOPBACK, *hosts)}
        self._any_address = bool(self._hosts & {"0.0.0.0", "::"})
        self._password = password
        self._guesses = guesses

    def _check_host(self, headers: Headers) -> None:
        match = HOST.fullmatch(headers.get("host", ""))
        name = (match[1] or match[2]).lower() if match else ""
        if name in self._hosts or (self._any_address and _is_address(name)):
            return
        raise RefusedError(
            421, "This page does not answer to that name: start it with --allow-host and the name to allow it."
        )

    @staticmethod
    def _check_origin(headers: Headers) -> None:
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc.lower() != headers["host"].lower()
        if foreign or headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            raise RefusedError(403, "This request comes from another site.")

    def _check_password(self, headers: Headers, address: str) -> None:
        if self._password is None:
            return
        kind, _, value = headers.get("authorization", "").partition(" ")
        if kind.lower() != "basic":
            raise RefusedError(401, "This page needs a password.")
        if wait := self._guesses.wait(address):
            raise RefusedError(429, "Too many wrong passwords: wait a minute.", wait)
        try:
            given = base64.b64decode(value).partition(b":")[2]
        except ValueError:
            given = b""
        if not secrets.compare_digest(given, self._password.encode()):
            self._guesses.take(address)
            raise RefusedError(401, "This is not the password.")

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        self._check_host(headers)
        if scope["method"] not in READING:
            self._check_origin(headers)
        client = scope["client"]  # None where it has hung up already
        self._check_password(headers, network(client[0]) if client else "")
        if not scope["path"].endswith("/songs") and (
            "transfer-encoding" in headers or int(headers.get("content-length", 0)) > MAX_BODY
        ):
            raise RefusedError(413, "This request is too large.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            self._check(scope)
        except RefusedError as error:
            await error_response(error)(scope, receive, send_with_headers)
        else:
            await self.app(scope, receive, send_with_headers)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
