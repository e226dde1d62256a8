"""A wire that can be broken: a TCP proxy in front of one server.

    with Proxy(c.primary) as wire:
        engine = create_engine(wire.url)
        wire.delay(to_client=0.1)
        wire.cut_after(3, to="server")     # the third packet arrives, its answer never does
        wire.heal()

1. A packet is a message of the server's protocol (MySQL, MariaDB, PostgreSQL; a record once the two speak TLS), so that
   "the n-th packet" is the same one in each run. Of any other protocol it is what one ``recv`` brought.
2. Nothing is lost in the middle: a hole holds bytes back and lets them through when healed, as TCP does; a cut passes
   whole packets, then closes both sides in good order, so that what was passed is read.
3. Two threads a connection, one direction each, and one that accepts. It listens on 127.0.0.1 only.
"""

from __future__ import annotations

import heapq
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from select import POLLIN, poll
from types import TracebackType
from typing import Final, Literal, TypeAlias

from rds_router.lab import ports
from rds_router.lab.framing import Framing, Protocol, framings
from rds_router.lab.server import Server

To: TypeAlias = Literal["server", "client"]


@dataclass(frozen=True, slots=True)
class Counts:
    """What went through a proxy since it was made."""

    connections: int
    """Accepted from clients."""
    open: int
    """Of those, not ended yet."""
    to_server: int
    """Packets passed on."""
    to_client: int


class Proxy:
    """Passes connections on to a server of the lab, or to a port of this machine, until told otherwise.

    ``protocol``: ``mysql``, ``postgresql`` or empty; taken from the server when not given. Every method may be called
    from any thread, also from an action of :meth:`after`.
    """

    def __init__(self, server: Server | int, *, protocol: Protocol | None = None) -> None:
        self._server = server if isinstance(server, Server) else None
        self._target = server.port if isinstance(server, Server) else server
        self._protocol: Protocol = protocol if protocol is not None else _protocol_of(self._server)
        (self.port,) = ports.reserve(1)
        """Where clients connect: the same until it is closed, also while it refuses."""
        self._changed = threading.Condition()
        self._connections: list[Connection] = []
        self._accepted = 0
        self._passed: dict[To, int] = {"server": 0, "client": 0}
        self._delays: dict[To, float] = {"server": 0.0, "client": 0.0}
        self._service = 0.0
        self._places: list[float] = []
        """When each place is free again: a heap."""
        self._holes: frozenset[To] = frozenset()
        self._armed: list[_Armed] = []
        self._is_closed = False
        self._listener: socket.socket | None = None
        self._listen()

    @property
    def url(self) -> str:
        """The server's URL, through this proxy. Raises ValueError for a proxy made of a port."""
        if self._server is None:
            raise ValueError("this proxy leads to a port: it knows no URL")
        return self._server.url.replace(f":{self._server.port}/", f":{self.port}/")

    @property
    def counts(self) -> Counts:
        """How much went through."""
        with self._changed:
            alive = sum(each.is_open for each in self._connections)
            return Counts(self._accepted, alive, self._passed["server"], self._passed["client"])

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The open ones, oldest first."""
        with self._changed:
            return tuple(each for each in self._connections if each.is_open)

    def delay(self, *, to_server: float = 0.0, to_client: float = 0.0) -> None:
        """Have every packet take that many seconds longer. Replaces the delays before."""
        with self._changed:
            self._delays = {"server": to_server, "client": to_client}

    def limit(self, places: int = 0, *, seconds: float = 0.0) -> None:
        """A server of limited capacity: every packet to it takes one of so many places for so long, then goes on.

        One that finds no place free waits for the first that becomes so. At most ``places / seconds`` packets a second
        pass, of all connections together. Without places there is no limit. Replaces the limit before.
        """
        with self._changed:
            self._places, self._service = [0.0] * places, seconds

    def blackhole(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """Hold everything back in these directions, and let nobody know. New connections are accepted and hang."""
        chosen: dict[To, bool] = {"server": to_server, "client": to_client}
        with self._changed:
            self._holes = frozenset(each for each, is_chosen in chosen.items() if is_chosen)

    def refuse(self) -> None:
        """Refuse new connections. Those that are open stay: :meth:`cut` ends them."""
        with self._changed:
            listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()

    def cut(self) -> None:
        """End every connection now. New ones go through."""
        for connection in self.connections:
            connection.cut()

    def cut_after(self, packets: int, *, to: To, of: int | None = None) -> threading.Event:
        """Cut the connection right after its n-th packet from now on in that direction; see :meth:`after`."""
        return self.after(packets, to=to, of=of, do=Connection.cut)

    def after(
        self, packets: int, *, to: To, do: Callable[[Connection], object], of: int | None = None
    ) -> threading.Event:
        """Do something once, right after the n-th packet from now on in that direction; 0: instead of the next one.

        ``of``: the client's own port (``getsockname()[1]``) counts that connection alone, else all count together.
        Until ``do(connection)`` returns nothing passes on that connection, whichever direction. Returns an event that
        is set when it is done; :meth:`heal` forgets what has not happened yet.
        """
        armed = _Armed(packets, to, of, do)
        with self._changed:
            self._armed.append(armed)
        return armed.done

    def lead_to(self, server: Server | int) -> None:
        """New connections go to another server, as when a name moves; open ones stay where they are."""
        with self._changed:
            self._target = server.port if isinstance(server, Server) else server

    def heal(self) -> None:
        """No delay, limit, hole, refusal and nothing armed any more; what was held back goes on its way."""
        self.limit()
        with self._changed:
            self._delays = {"server": 0.0, "client": 0.0}
            self._holes = frozenset()
            self._armed.clear()
            self._changed.notify_all()
            must_listen = self._listener is None and not self._is_closed
        if must_listen:
            self._listen()

    def close(self) -> None:
        """End everything and give the port back. May be called twice."""
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
        self.refuse()
        for connection in self.connections:
            connection.cut()
            if connection._server is not None:
                with suppress(OSError):
                    connection._server.shutdown(socket.SHUT_RDWR)
        ports.release([self.port])

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        counts = self.counts
        return f"<Proxy {self.port} -> {self._target}: {counts.open} open, {counts.to_server} / {counts.to_client}>"

    # --- what the threads do

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_HOST, self.port))
        listener.listen(512)
        with self._changed:
            self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), name=f"lab proxy {self.port}", daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, address = listener.accept()
            except OSError:
                return  # closed
            connection = Connection(self, client, int(address[1]))
            with self._changed:
                self._connections = [each for each in self._connections if each.is_open]
                self._connections.append(connection)
                self._accepted += 1
            threading.Thread(target=connection._run, name=f"lab proxy {self.port}", daemon=True).start()

    def _reach_server(self) -> socket.socket:
        with self._changed:
            target = self._target
        return socket.create_connection((_HOST, target), timeout=_PATIENCE)

    def _due(self, to: To, connection: Connection, *, passed: int) -> _Armed | None:
        """Count packets passed; what was armed for this moment, disarmed. The caller holds no lock."""
        with self._changed:
            self._passed[to] += passed
            connection.passed[to] += passed
            for armed in self._armed:
                if armed.to == to and armed.of in (None, connection.client_port):
                    armed.left -= passed
                    if armed.left <= 0:
                        self._armed.remove(armed)
                        return armed
        return None

    def _due_at(self, to: To, packets: int) -> float:
        """When what has come now goes on, by the delay and the limit."""
        with self._changed:
            due = time.monotonic() + self._delays[to]
            for _ in range(packets if to == "server" and self._places else 0):
                due = max(due, self._places[0]) + self._service
                heapq.heapreplace(self._places, due)
            return due

    def _is_watched(self, to: To) -> bool:
        return any(armed.to == to for armed in self._armed)


class Connection:
    """One client's connection through a proxy."""

    def __init__(self, proxy: Proxy, client: socket.socket, client_port: int) -> None:
        self.client_port = client_port
        """The client's own port, by which a test knows its connection."""
        self.passed: dict[To, int] = {"server": 0, "client": 0}
        """Packets passed on in each direction."""
        self.is_open = True
        self._proxy = proxy
        self._client = client
        self._server: socket.socket | None = None
        self._is_held = False

    def cut(self) -> None:
        """End it on both sides; what was passed on is still read there."""
        with self._proxy._changed:
            self.is_open = False
            server = self._server
            self._proxy._changed.notify_all()
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            if server is not None:
                server.shutdown(socket.SHUT_WR)  # its answer is still taken: a reset could overtake what was passed on

    def hang_up(self) -> None:
        """Tell the client that the server has gone. What the client sends until it hears of it still arrives there."""
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_WR)

    def __repr__(self) -> str:
        state = "open" if self.is_open else "ended"
        return f"<Connection from {self.client_port}: {self.passed['server']} / {self.passed['client']} {state}>"

    def _run(self) -> None:
        with self._client, suppress(OSError):
            self._wait_for_passage("server")
            # A client of a dead server sees a connection that ends, not a refusal: it has been accepted here.
            with self._proxy._reach_server() as server:
                server.settimeout(None)
                for each in (self._client, server):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._proxy._changed:
                    self._server = server
                self._wait_for_passage("server")  # it may have been cut meanwhile
                to_server, to_client = framings(self._proxy._protocol)
                name = threading.current_thread().name
                back = threading.Thread(
                    target=self._pump, args=("client", server, self._client, to_client), name=name, daemon=True
                )
                back.start()
                self._pump("server", self._client, server, to_server)
                back.join()
                server.settimeout(_DRAIN)
                while server.recv(_CHUNK):
                    pass
        with self._proxy._changed:
            self.is_open = False

    def _pump(self, to: To, source: socket.socket, sink: socket.socket, framing: Framing) -> None:
        waiting: deque[tuple[float, bytes, list[int]]] = deque()
        readable = poll()
        readable.register(source, POLLIN)
        try:
            while True:
                left = None if not waiting else max(0.0, waiting[0][0] - time.monotonic())
                if readable.poll(None if left is None else int(left * 1000)):
                    data = source.recv(_CHUNK)
                    ends = framing.ends(data)
                    waiting.append((self._proxy._due_at(to, len(ends)), data, ends))
                    if not data:
                        readable.unregister(source)
                elif left is not None and left < 0.001:
                    time.sleep(left)  # poll() knows whole milliseconds only
                while waiting and waiting[0][0] <= time.monotonic():
                    _, data, ends = waiting.popleft()
                    self._wait_for_passage(to)
                    if not data:
                        sink.shutdown(socket.SHUT_WR)
                        return
                    self._pass_on(to, sink, data, ends)
        except OSError:  # either side has gone, or it was cut
            self.cut()

    def _pass_on(self, to: To, sink: socket.socket, data: bytes, ends: list[int]) -> None:
        if not self._proxy._is_watched(to):
            # Counted before it is sent: whoever has the answer finds the packet counted.
            due = self._proxy._due(to, self, passed=len(ends))
            self._hold_for(due)
            sink.sendall(data)
            self._act(due)
            return
        start = 0
        for end in ends:
            self._wait_for_passage(to)
            self._act(self._proxy._due(to, self, passed=0))
            due = self._proxy._due(to, self, passed=1)
            self._hold_for(due)
            sink.sendall(data[start:end])
            self._act(due)
            start = end
        if start < len(data):
            self._wait_for_passage(to)
            sink.sendall(data[start:])

    def _hold_for(self, armed: _Armed | None) -> None:
        """Before the packet is sent: its answer could be faster than what is to be done."""
        if armed is not None:
            self._is_held = True

    def _act(self, armed: _Armed | None) -> None:
        if armed is None:
            return
        self._hold_for(armed)
        try:
            armed.do(self)
        finally:
            with self._proxy._changed:
                self._is_held = False
                self._proxy._changed.notify_all()
            armed.done.set()
        if not self.is_open:
            raise OSError("cut")

    def _wait_for_passage(self, to: To) -> None:
        """Wait while there is a hole in this direction. Raises OSError when the connection was cut."""
        with self._proxy._changed:
            self._proxy._changed.wait_for(
                lambda: not self.is_open or (to not in self._proxy._holes and not self._is_held)
            )
            if not self.is_open:
                raise OSError("cut")


@dataclass(eq=False, slots=True)
class _Armed:
    """What is to happen after some packets."""

    left: int
    to: To
    of: int | None
    do: Callable[[Connection], object]
    done: threading.Event = field(default_factory=threading.Event)


def _protocol_of(server: Server | None) -> Protocol:
    if server is None:
        return ""
    return "postgresql" if server.engine == "postgresql" else "mysql"


_HOST: Final = "127.0.0.1"
_CHUNK: Final = 65536
_PATIENCE: Final = 10.0
_DRAIN: Final = 2.0
