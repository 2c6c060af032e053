"""Connections that are closed when their client stalls; uvicorn itself has no such timeout."""

import asyncio
from collections import Counter

from uvicorn.protocols.http.h11_impl import H11Protocol

from .limits import Limits, network

GRACE_SECONDS = 1.0  # for open requests when the server stops
MIN_BYTES = 10_000  # an incomplete request that sends less between two checks has stalled


def protocol(limits: Limits, proxy: str | None) -> type[asyncio.Protocol]:
    """The protocol class for these limits; connections from ``proxy`` are not counted as one client's."""
    check_seconds = limits.stalled_seconds / 2
    connected: Counter[str] = Counter()

    class Connection(H11Protocol):
        """A connection that is aborted if two checks in a row find it waiting for a stalled client."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._received = self._strikes = 0
            self._blocked: asyncio.TimerHandle | None = None
            self._address = network(self.client[0]) if self.client else ""
            connected[self._address] += 1
            allowed = limits.connections if self._address == proxy else limits.connections // 2
            if connected.total() > limits.connections or connected[self._address] > allowed:
                transport.abort()
            else:
                self.loop.call_later(check_seconds, self._check)

        def connection_lost(self, exc: Exception | None) -> None:
            connected[self._address] -= 1
            if not connected[self._address]:
                del connected[self._address]
            super().connection_lost(exc)

        def _check(self) -> None:
            if self.transport.is_closing():
                return
            idle = self.cycle is None or self.cycle.response_complete
            waiting = idle or (self.cycle.more_body and not self.flow.read_paused)
            self._strikes = self._strikes + 1 if waiting and self._received < MIN_BYTES / 2 else 0
            self._received = 0
            if self._strikes == 2:
                self.transport.abort()
            else:
                self.loop.call_later(check_seconds, self._check)

        def data_received(self, data: bytes) -> None:
            self._received += len(data)
            super().data_received(data)

        def on_response_complete(self) -> None:
            self._strikes = 0
            super().on_response_complete()

        def pause_writing(self) -> None:
            self._blocked = self.loop.call_later(limits.stalled_seconds, self.transport.abort)
            super().pause_writing()

        def resume_writing(self) -> None:
            if self._blocked is not None:
                self._blocked.cancel()
            super().resume_writing()

        def shutdown(self) -> None:
            super().shutdown()
            # Uvicorn would cancel a long upload or download with a traceback.
            self.loop.call_later(GRACE_SECONDS, self.transport.abort)

    return Connection
