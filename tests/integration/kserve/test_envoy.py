"""Envoy itself with our configuration: which replica it leaves out, and whom it sends how much."""

from __future__ import annotations

import http.client
import random
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.served import free_port

from modelyard_kserve.local import envoy
from modelyard_kserve.local.addresses import Route, Share
from modelyard_kserve.local.admin import Admin
from modelyard_kserve.local.envoy import SPLIT_HEADER, Routing

#: Status, text and version.
Answer = tuple[int, str, str]
OLD, NEW = Share("late-00001", "late", "1", 80), Share("late-00002", "late", "2", 20)
#: Seconds; Envoy looks every second whether it lets a replica in again.
SOON = 60


class Replica:
    """Answers on a socket with a status and its name.

    Args:
        path: of the socket, as a replica has one.
        status: of its answers; 0: it closes the connection instead.
    """

    def __init__(self, path: Path, status: int = 200) -> None:
        self.path, self.status, self.asked = path, status, 0
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        self._server.listen(128)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Nobody listens any more, though the socket's file is there."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        head, body = b"", self.path.stem.encode()
        said = f"HTTP/1.1 {self.status} X\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        with connection:
            while b"\r\n\r\n" not in head:
                if not (piece := connection.recv(65536)):
                    return
                head += piece
            self.asked += 1
            if self.status:
                connection.sendall(said.encode() + body)


class Gateway:
    """Envoy, and replicas in the same folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self._admin = Admin(folder / "admin.sock")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *shares: Share, **sockets: Sequence[Replica]) -> None:
        """Start Envoy for the endpoint `late`."""
        routing = Routing(
            folder=self.folder,
            port=self.port,
            activator=self.folder / "activator.sock",
            controller=self.folder / "controller.sock",
            routes=(Route("late", "default", shares),),
            sockets={f"late-0000{name[-1]}": [one.path for one in given] for name, given in sockets.items()},
        )
        bootstrap = envoy.write_first(routing, self.folder / "admin.sock")
        argv = [envoy.program(), "-c", str(bootstrap), "--log-level", "warn", "--disable-hot-restart"]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen([*argv, "--concurrency", "1"], stdout=log, stderr=log)

    def end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def replica(self, name: str, status: int = 200) -> Replica:
        return Replica(self.folder / f"{name}.sock", status)

    def ask(self, headers: dict[str, str] | None = None, path: str = "/serving/default/late/v2") -> Answer:
        """Status, text, and the version that answered; 0: nobody listens yet."""
        connection = http.client.HTTPConnection(envoy.HOST, self.port, timeout=10)
        try:
            connection.request("GET", path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), answer.headers.get("x-modelyard-version", "")
        except ConnectionRefusedError:
            return 0, "", ""
        finally:
            connection.close()

    def runs(self) -> bool:
        return self.ask(path="/healthz")[0] == 200

    def counted(self, name: str) -> int:
        """One of Envoy's numbers about the first revision."""
        asked = f"cluster.{OLD.revision}.{name}"
        return self._admin.counters(f"^{asked}$").get(asked, 0)

    def left_out(self) -> int:
        """Replicas that get nothing now."""
        return self.counted("outlier_detection.ejections_active")

    def leaves_out(self, count: int, but: str) -> bool:
        """Whether so many replicas get nothing, and the named one gets everything while it is so."""
        before = self.left_out()
        said = {self.ask()[:2] for _ in range(40)}
        return (before, self.left_out(), said) == (count, count, {(200, but)})


@pytest.fixture
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    made = Gateway(tmp_path_factory.mktemp("envoy"))
    made.replica("activator")
    yield made
    made.end()


def test_a_replica_that_refuses_is_left_out_for_a_while_and_nobody_notices(
    gateway: Gateway, within: Any
) -> None:
    well, dead = gateway.replica("well"), gateway.replica("dead")
    dead.close()
    gateway.start(OLD, revision_1=[well, dead])
    assert within(60, gateway.runs)
    # A refused request goes to the activator, which holds it for a replica.
    assert {gateway.ask()[0] for _ in range(100)} == {200}
    assert within(SOON, lambda: gateway.leaves_out(1, "well"))
    dead.path.unlink()
    gateway.replica("dead")
    assert within(SOON, lambda: gateway.ask()[1] == "dead"), "it is never let in again"


def test_while_one_replica_of_three_takes_requests_it_gets_all_of_them(gateway: Gateway, within: Any) -> None:
    well, *dead = (gateway.replica(name) for name in ("well", "dead", "gone"))
    for one in dead:
        one.close()
    gateway.start(OLD, revision_1=[well, *dead])
    assert within(60, gateway.runs)
    assert within(SOON, lambda: gateway.leaves_out(2, "well"))


def test_what_a_replica_may_have_begun_is_not_asked_for_again(gateway: Gateway, within: Any) -> None:
    well, torn = gateway.replica("well"), gateway.replica("torn", status=0)
    gateway.start(OLD, revision_1=[well, torn])
    assert within(60, gateway.runs)
    seen = Counter(gateway.ask()[:2] for _ in range(60))
    told = (503, '{"error":"the model server ended while it answered"}\n')
    assert seen.keys() == {(200, "well"), told}
    assert torn.asked == seen[told]


def test_an_error_of_the_model_is_an_answer_and_leaves_nobody_out(gateway: Gateway, within: Any) -> None:
    well, raises = gateway.replica("well"), gateway.replica("raises", status=500)
    gateway.start(OLD, revision_1=[well, raises])
    assert within(60, gateway.runs)
    seen = Counter(gateway.ask()[0] for _ in range(100))
    assert seen.keys() == {200, 500}
    assert min(seen.values()) > 20
    assert gateway.left_out() == 0


def test_the_header_decides_who_answers_and_without_it_chance_does(gateway: Gateway, within: Any) -> None:
    gateway.start(NEW, OLD, revision_1=[gateway.replica("old")], revision_2=[gateway.replica("new")])
    assert within(60, gateway.runs)
    assert [n for n in range(100) if gateway.ask({SPLIT_HEADER: str(n)})[1:] == ("new", "2")] == [*range(20)]
    seeded = random.Random(7)
    numbers = [seeded.randrange(1 << 32) for _ in range(200)]
    first, second = ([gateway.ask({SPLIT_HEADER: str(n)})[2] for n in numbers] for _ in range(2))
    assert first == second == ["2" if n % 100 < 20 else "1" for n in numbers]
    chance = Counter(gateway.ask()[2] for _ in range(600))
    assert abs(chance["2"] - 120) < 5 * (600 * 0.2 * 0.8) ** 0.5
    assert {gateway.ask({SPLIT_HEADER: "no number"})[0] for _ in range(5)} == {200}
