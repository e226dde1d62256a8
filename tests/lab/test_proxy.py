"""The wire that can be broken: what passes, what does not, and that "packet n" is the same one each time."""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection as SQLConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from rds_router.lab import Cluster, Proxy
from rds_router.lab.framing import Protocol, framings
from tests.lab.conftest import Run


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets."""

    def serve(client: socket.socket) -> None:
        with client, suppress(OSError):
            while data := client.recv(65536):
                client.sendall(data)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def call(port: int) -> socket.socket:
    """A connection that does not wait for ever."""
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def ask(client: socket.socket, data: bytes) -> bytes:
    """Send bytes and get as many back; fewer if the connection ends."""
    client.sendall(data)
    answer = b""
    while len(answer) < len(data):
        piece = client.recv(65536)
        if not piece:
            break
        answer += piece
    return answer


def has_ended(client: socket.socket) -> bool:
    """True once the other side has closed."""
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def test_bytes_pass_both_ways_and_are_counted(echo: int) -> None:
    """Whatever is sent arrives, in order; connections and packets are counted."""
    with Proxy(echo) as wire, call(wire.port) as one, call(wire.port) as two:
        assert ask(one, b"hello") == b"hello"
        assert ask(two, b"x" * 300_000) == b"x" * 300_000
        counts = wire.counts
        assert (counts.connections, counts.open) == (2, 2)
        assert {each.client_port for each in wire.connections} == {one.getsockname()[1], two.getsockname()[1]}
        assert counts.to_server >= 2
        one.close()
        deadline = time.monotonic() + 10
        while wire.counts.open != 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert wire.counts.open == 1


def test_a_delay_holds_each_direction_back_and_keeps_the_order(echo: int) -> None:
    """A quarter of a second one way, and as long back."""
    with Proxy(echo) as wire, call(wire.port) as client:
        wire.delay(to_server=0.25, to_client=0.25)
        begun = time.monotonic()
        client.sendall(b"a")
        client.sendall(b"b")
        assert client.recv(2, socket.MSG_WAITALL) == b"ab"
        assert time.monotonic() - begun >= 0.5
        wire.heal()
        assert ask(client, b"c") == b"c"


def test_a_limit_is_shared_by_all_connections(echo: int) -> None:
    """One place for a tenth of a second each: three packets of two connections take three tenths, at least."""
    with Proxy(echo) as wire, call(wire.port) as one, call(wire.port) as two:
        wire.limit(1, seconds=0.1)
        begun = time.monotonic()
        one.sendall(b"a")
        two.sendall(b"b")
        assert one.recv(1) == b"a"
        assert ask(one, b"c") == b"c"
        assert two.recv(1) == b"b"
        assert time.monotonic() - begun >= 0.3
        wire.limit()
        assert ask(two, b"d") == b"d"


def test_a_hole_holds_everything_and_gives_it_back(echo: int) -> None:
    """Old connections hang, new ones are accepted and hang; nothing is lost when it is healed."""
    with Proxy(echo) as wire, call(wire.port) as old:
        assert ask(old, b"a") == b"a"
        wire.blackhole()
        old.sendall(b"b")
        with call(wire.port) as new:
            new.sendall(b"c")
            for client in (old, new):
                client.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    client.recv(1)
                client.settimeout(10)
            wire.heal()
            assert (old.recv(1), new.recv(1)) == (b"b", b"c")


def test_a_hole_may_have_one_direction(echo: int) -> None:
    """The question arrives, the answer does not."""
    with Proxy(echo) as wire, call(wire.port) as client:
        assert ask(client, b"a") == b"a"
        wire.blackhole(to_server=False)
        before = wire.counts
        client.sendall(b"b")
        deadline = time.monotonic() + 10
        while wire.counts.to_server == before.to_server and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (wire.counts.to_server, wire.counts.to_client) == (before.to_server + 1, before.to_client)


def test_a_refusing_proxy_keeps_its_port_and_what_is_open(echo: int) -> None:
    """New connections are refused until it is healed; a cut ends the old ones."""
    with Proxy(echo) as wire, call(wire.port) as old:
        assert ask(old, b"a") == b"a"
        wire.refuse()
        with pytest.raises(ConnectionRefusedError):
            call(wire.port)
        assert ask(old, b"b") == b"b"
        wire.cut()
        assert has_ended(old)
        wire.heal()
        with call(wire.port) as new:
            assert ask(new, b"c") == b"c"


@pytest.mark.parametrize("packets", [0, 1, 3])
def test_a_cut_after_some_packets_towards_the_server(echo: int, packets: int) -> None:
    """So many are answered, but for the last; the next one is never seen there."""
    with Proxy(echo) as wire, call(wire.port) as client, call(wire.port) as other:
        assert ask(client, b"a") == b"a"
        was_cut = wire.cut_after(packets, to="server", of=client.getsockname()[1])
        assert [ask(other, b"o") for _ in range(4)] == [b"o"] * 4  # those do not count
        for _ in range(packets - 1):
            assert ask(client, b"b") == b"b"
        assert not was_cut.is_set()
        passed = wire.counts.to_server
        client.sendall(b"c")
        assert was_cut.wait(10)
        assert has_ended(client)
        assert wire.counts.to_server == passed + min(packets, 1)
        assert ask(other, b"o") == b"o"


def test_a_cut_after_some_packets_towards_the_client(echo: int) -> None:
    """The answer arrives, then the connection ends."""
    with Proxy(echo) as wire, call(wire.port) as client:
        was_cut = wire.cut_after(1, to="client")
        assert ask(client, b"a") == b"a"
        assert was_cut.wait(10)
        assert has_ended(client)


def test_nothing_passes_while_an_action_runs(echo: int) -> None:
    """What is done after a packet is done before its answer, and before the connection goes on."""
    with Proxy(echo) as wire, call(wire.port) as client:
        seen: list[tuple[int, int]] = []

        def look(connection: Any) -> None:
            time.sleep(0.2)
            seen.append((connection.passed["server"], connection.passed["client"]))

        wire.after(1, to="server", do=look)
        assert ask(client, b"a") == b"a"
        assert seen == [(1, 0)]
        assert ask(client, b"b") == b"b"
        assert len(seen) == 1


def test_healing_forgets_what_has_not_happened(echo: int) -> None:
    """An armed cut is gone."""
    with Proxy(echo) as wire, call(wire.port) as client:
        was_cut = wire.cut_after(1, to="server")
        wire.heal()
        assert ask(client, b"a") == b"a"
        assert not was_cut.is_set()


def test_new_connections_may_be_led_elsewhere(echo: int) -> None:
    """As when a name moves: the old connection stays where it was."""
    with Proxy(echo) as there, Proxy(echo) as wire, call(wire.port) as old:
        assert ask(old, b"a") == b"a"
        wire.lead_to(there.port)
        with call(wire.port) as new:
            assert ask(new, b"b") == b"b"
            assert ask(old, b"c") == b"c"
            assert there.counts.connections == 1


def test_closing_leaves_no_thread(echo: int) -> None:
    """Also with open connections, a hole and an action that never came."""
    wire = Proxy(echo)
    clients = [call(wire.port) for _ in range(3)]
    assert ask(clients[0], b"a") == b"a"
    wire.cut_after(100, to="client")
    wire.blackhole()
    clients[0].sendall(b"b")
    wire.close()
    wire.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(str(wire.port) in each.name for each in threading.enumerate()):
        time.sleep(0.01)
    assert not [each.name for each in threading.enumerate() if str(wire.port) in each.name]
    for client in clients:
        client.close()


def _tls(*sizes: int) -> list[bytes]:
    return [b"\x17\x03\x03" + struct.pack("!H", size) + b"t" * size for size in sizes]


def _mysql(*payloads: bytes) -> list[bytes]:
    return [len(each).to_bytes(3, "little") + bytes([number]) + each for number, each in enumerate(payloads)]


def _postgresql(*messages: tuple[bytes, bytes]) -> list[bytes]:
    return [letter + struct.pack("!I", 4 + len(body)) + body for letter, body in messages]


_ASKS_TLS = struct.pack("!II", 8, 80877103)
_BEGINS = struct.pack("!II", 13, 196608) + b"user\0"
TALKS: dict[str, tuple[Protocol, list[bytes], list[bytes]]] = {
    "mysql": (
        "mysql",
        _mysql(struct.pack("<I", 0x200) + b"c" * 60, b"\x03SELECT 1", b"", b"x" * 70_000),
        _mysql(b"greeting", b"", b"r" * 300),
    ),
    "mysql over tls": (
        "mysql",
        [*_mysql(struct.pack("<I", 0xA00) + b"c" * 28), *_tls(500, 1, 16_000)],
        [*_mysql(b"greeting"), *_tls(2_000, 30)],
    ),
    "postgresql": (
        "postgresql",
        [_BEGINS, *_postgresql((b"p", b"secret\0"), (b"Q", b"SELECT 1\0"), (b"S", b""))],
        _postgresql((b"R", b"\0\0\0\0"), (b"Z", b"I"), (b"D", b"d" * 70_000)),
    ),
    "postgresql, tls refused": (
        "postgresql",
        [_ASKS_TLS, _BEGINS, *_postgresql((b"Q", b"SELECT 1\0"))],
        [b"N", *_postgresql((b"R", b"\0\0\0\0"))],
    ),
    "postgresql over tls": ("postgresql", [_ASKS_TLS, *_tls(500, 60)], [b"S", *_tls(3_000, 8)]),
}


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("seed", range(5))
def test_packets_end_in_the_same_places_however_the_stream_is_cut(talk: str, seed: int) -> None:
    """TCP may deliver a stream in any pieces, single bytes among them; packets are the same."""
    protocol, to_server, to_client = TALKS[talk]
    dice = random.Random(seed)
    server, client = framings(protocol)
    # The two sides take turns: the greeting or the question first.
    first = [(client, to_client[:1])] if protocol == "mysql" else []
    rest = to_client[1:] if protocol == "mysql" else to_client
    for framing, packets in (*first, (server, to_server[:1]), (client, rest), (server, to_server[1:])):
        stream, ends, at = b"".join(packets), [], 0
        while at < len(stream):
            piece = stream[at : at + dice.choice((1, 2, 3, 7, 400, 100_000))]
            ends += [at + end for end in framing.ends(piece)]
            at += len(piece)
        assert ends == [sum(map(len, packets[:number])) for number in range(1, len(packets) + 1)]


@pytest.fixture(params=["mariadb", "mysql", "postgresql"])
def served(request: pytest.FixtureRequest) -> Cluster:
    """A shared cluster, each engine in turn."""
    found: Cluster = request.getfixturevalue(f"{request.param}_cluster")
    return found


def _client_port(connection: SQLConnection) -> int:
    raw: Any = connection.connection.dbapi_connection
    descriptor = raw.fileno() if hasattr(raw, "fileno") else raw._sock.fileno()
    with socket.socket(fileno=os.dup(descriptor)) as copy:
        return int(copy.getsockname()[1])


def test_the_wire_is_cut_at_each_packet_of_a_transaction(served: Cluster, run: Run) -> None:
    """Before COMMIT has arrived nothing is done, from then on everything, each time at the same packet."""
    run(served.primary, "DROP TABLE IF EXISTS wires")
    run(served.primary, "CREATE TABLE wires (id INT PRIMARY KEY)")

    def insert(number: int, packets: int | None) -> tuple[int, bool]:
        """Packets used, and whether the client was told that it is done."""
        engine = create_engine(wire.url, poolclass=NullPool)
        with engine.connect() as connection:
            port = _client_port(connection)
            (mine,) = (each for each in wire.connections if each.client_port == port)
            before = mine.passed["server"]
            if packets is not None:
                wire.cut_after(packets, to="server", of=port)
            try:
                connection.execute(text("INSERT INTO wires VALUES (:number)"), {"number": number})
                connection.commit()
            except DBAPIError:
                return mine.passed["server"] - before, False
            return mine.passed["server"] - before, True

    with Proxy(served.primary) as wire:
        used, _ = insert(0, None)
        assert insert(1, None) == (used, True)
        assert used >= 2
        for packets in range(used):
            assert insert(100 + packets, packets) == (packets, False)
        assert insert(200, used) == (used, False)  # COMMIT has arrived, its answer has not
        wire.heal()
    deadline = time.monotonic() + 10
    while run(served.primary, "SELECT count(*) FROM wires WHERE id = 200") == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert run(served.primary, "SELECT count(*) FROM wires WHERE id = 200") == 1
    assert run(served.primary, "SELECT count(*) FROM wires WHERE id BETWEEN 100 AND 199") == 0
    run(served.primary, "DROP TABLE wires")
