"""A slow, long link on one machine: a relay of TCP that counts, paces and delays every byte."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Lock, Thread
from time import perf_counter, sleep
from typing import Final, final

PIECE_BYTES: Final = 1500
"""What goes over the link at once, as an Ethernet frame would."""


@final
class ShapedLink:
    """Relays connections to a port; towards it at so many bits per second, both ways delayed.

    A token bucket of one piece: a piece leaves when the one before it has been put on the line, and
    arrives half a round trip later. The way back is delayed and not paced, as answers are small.
    One line for all connections. Nothing is lost or reordered.

    Args:
        port: of a server on this machine.
        bandwidth_bps: bits per second towards it.
        rtt_s: round-trip time.
    """

    def __init__(self, port: int, bandwidth_bps: float, rtt_s: float) -> None:
        self._server, self._byte_s, self._delay_s = port, 8 / bandwidth_bps, rtt_s / 2
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        """To connect to instead."""
        self.sent_bytes = 0
        """That went towards the server."""
        self._line, self._free_at = Lock(), 0.0
        self._open: list[socket.socket] = []
        self._cut = False
        Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break the link: what is on its way is lost, and nobody can connect any more."""
        with self._line:
            self._cut = True
            for end in (self._listener, *self._open):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # whoever is gone cannot be told
                end.close()

    def _accept(self) -> None:
        while not self._cut:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._server))
            except OSError:
                return
            with self._line:
                self._open += [near, far]
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._relay(near, far, paced=True)
            self._relay(far, near, paced=False)

    def _relay(self, source: socket.socket, target: socket.socket, *, paced: bool) -> None:
        flying: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
        Thread(target=self._take, args=(source, flying, paced), daemon=True).start()
        Thread(target=self._bring, args=(flying, target), daemon=True).start()

    def _take(
        self, source: socket.socket, flying: "SimpleQueue[tuple[float, bytes]]", paced: bool
    ) -> None:
        data = b"more"
        while data:
            try:
                data = source.recv(PIECE_BYTES)
            except OSError:
                data = b""
            leaves_at = perf_counter()
            if paced:
                with self._line:
                    self._free_at = max(self._free_at, leaves_at) + len(data) * self._byte_s
                    leaves_at = self._free_at
                    self.sent_bytes += len(data)
            flying.put((leaves_at + self._delay_s, data))
            # The sender's own buffers fill up behind a line that is taken.
            sleep(max(0.0, leaves_at - perf_counter() - self._delay_s))

    def _bring(self, flying: "SimpleQueue[tuple[float, bytes]]", target: socket.socket) -> None:
        while True:
            arrives_at, data = flying.get()
            sleep(max(0.0, arrives_at - perf_counter()))
            try:
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)
            except OSError:
                return


@contextmanager
def shaped(port: int, bandwidth_bps: float, rtt_s: float) -> Iterator[ShapedLink]:
    """A `ShapedLink` that is cut at the end."""
    link = ShapedLink(port, bandwidth_bps, rtt_s)
    try:
        yield link
    finally:
        link.cut()
