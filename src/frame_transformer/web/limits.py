"""Limits on what one visitor and all visitors together may use."""

import ipaddress
import time
from dataclasses import dataclass

from ..errors import FrameTransformerError

MAX_ADDRESSES = 10_000


class RefusedError(FrameTransformerError):
    """A request was refused.

    ``status`` is the HTTP status, ``wait`` the seconds after which a retry may succeed.
    """

    def __init__(self, status: int, message: str, wait: float | None = None):
        super().__init__(message)
        self.status = status
        self.wait = wait


@dataclass(frozen=True)
class Limits:
    """Limits of the server. One network address gets at most half of each total.

    Attributes:
        places: songs in the queue. session_places: those of one session.
        sessions: open sessions. sessions_per_minute: new sessions from one address.
        guesses_per_minute: wrong passwords from one address.
        connections: open connections.
        stalled_seconds: how long the server waits for a client that sends or takes nothing.
    """

    places: int = 100
    session_places: int = 5
    sessions: int = 1000
    sessions_per_minute: int = 60
    guesses_per_minute: int = 10
    connections: int = 500
    stalled_seconds: float = 30.0


def network(address: str) -> str:
    """The part of an address that one client cannot change at will: all of IPv4, the first 64 bits of IPv6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((address, 64), strict=False)) if parsed.version == 6 else address


class Throttle:
    """Allows a number of events per minute for each address, in a burst or spread out.

    This is the generic cell rate algorithm (ITU-T I.371). For each address it keeps the time until which the allowance
    is used up.
    """

    def __init__(self, per_minute: int):
        self._interval = 60 / per_minute
        self._spent: dict[str, float] = {}

    def wait(self, address: str) -> float:
        """Seconds until the next event is allowed; 0 if it is allowed now."""
        now = time.monotonic()
        return max(0.0, self._spent.get(address, now) + self._interval - now - 60)

    def take(self, address: str) -> None:
        """Counts an event."""
        now = time.monotonic()
        if len(self._spent) >= MAX_ADDRESSES:
            self._spent = {key: spent for key, spent in self._spent.items() if spent > now}
        self._spent[address] = max(now, self._spent.get(address, now)) + self._interval
