"""What the server grants, so that no visitor can use it up."""

import ipaddress
import time
from dataclasses import dataclass

from ..errors import FrameTransformerError

MAX_ADDRESSES = 10_000


class RefusedError(FrameTransformerError):
    """More was asked for than is granted.

    ``status`` is the HTTP status, ``wait`` the seconds until it may be granted.
    """

    def __init__(self, status: int, message: str, wait: float | None = None):
        super().__init__(message)
        self.status = status
        self.wait = wait


@dataclass(frozen=True)
class Limits:
    """One network address gets at most half of each total.

    Attributes:
        places: of the queue. visit_places: those of one visit.
        visits: open at the same time. visits_per_minute: opened from one address.
        guesses_per_minute: wrong passwords from one address.
        connections: open at the same time.
        stalled_seconds: how long the server waits for a client that sends or takes nothing.
    """

    places: int = 100
    visit_places: int = 5
    visits: int = 1000
    visits_per_minute: int = 60
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
    """Allows so many events a minute for each address: at once, or spread over the minute.

    This is the generic cell rate algorithm (ITU-T I.371): one time is kept for each address, until which its allowance
    is spent.
    """

    def __init__(self, per_minute: int):
        self._interval = 60 / per_minute
        self._spent: dict[str, float] = {}

    def wait(self, address: str) -> float:
        """Seconds until the next event is allowed, 0 where it is allowed now."""
        now = time.monotonic()
        return max(0.0, self._spent.get(address, now) + self._interval - now - 60)

    def take(self, address: str) -> None:
        """Counts an event."""
        now = time.monotonic()
        if len(self._spent) >= MAX_ADDRESSES:
            self._spent = {key: spent for key, spent in self._spent.items() if spent > now}
        self._spent[address] = max(now, self._spent.get(address, now)) + self._interval
