"""Servers as containers, through testcontainers."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rds_router.lab import ports
from rds_router.lab.doctor import container_trouble
from rds_router.lab.engines import ENGINES, Engine, Options
from rds_router.lab.engines.contained import ContainerRecipe, container_recipe
from rds_router.lab.errors import EngineMissing, LabError, ServerFailed
from rds_router.lab.guard import Guard
from rds_router.lab.parallel import each
from rds_router.lab.server import Server, State
from rds_router.lab.watchdog import family

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.network import Network

START_TIMEOUT = 120.0  # seconds; an official image initialises its data on the first start


class ContainerRuntime:
    """Containers on a network of their own; each publishes its port on 127.0.0.1 only.

    Removal after a crash is the watchdog's, so testcontainers' own reaper (Ryuk, one more image to fetch) is not used.
    """

    def __init__(self, engine: Engine, guard: Guard, options: Options, image: str | None) -> None:
        trouble = container_trouble()
        if trouble:
            raise EngineMissing(f"no containers here: {trouble}")
        from testcontainers.core.network import Network

        self._engine = engine
        self._guard = guard
        self._recipe: ContainerRecipe = container_recipe(engine, options)
        variable = f"RDS_ROUTER_LAB_{engine.name.upper()}_IMAGE"
        self._image = image or os.environ.get(variable) or self._recipe.official_image
        self._containers: dict[str, DockerContainer] = {}
        self._ports: list[int] = []
        self._network: Network | None = Network().create()
        guard.watch("network", str(self._network.id))

    def reserve_ports(self, count: int) -> list[int]:
        """Ports on 127.0.0.1; kept until close()."""
        found = ports.reserve(count)
        self._ports += found
        return found

    def peer(self, name: str, port: int) -> tuple[str, int]:
        return name, self._recipe.port

    def create_all(self, primary: Server, replicas: Sequence[Server]) -> None:
        if self._recipe.clones:
            self._create(primary, None)
            each(replicas, lambda replica: self._create(replica, primary))
        else:
            each([primary, *replicas], lambda server: self._create(server, None))

    def rebuild(self, server: Server, source: Server) -> None:
        self._remove(server)
        self._create(server, source)

    def start(self, server: Server) -> None:
        self._wrapped(server).start()
        server.state = State.RUNNING
        self._wait_until_it_answers(server)

    def stop(self, server: Server) -> None:
        # PostgreSQL's SIGINT ends sessions; its SIGTERM would wait for them to leave.
        self._signal(server, "SIGINT" if self._engine.name == "postgresql" else "SIGTERM", patience=20)
        self.kill(server)

    def kill(self, server: Server) -> None:
        if self.is_up(server):
            if server.state is State.FROZEN:
                # Some engines queue signals to a paused container. Its processes have no time to do anything.
                self._wrapped(server).unpause()
            self._signal(server, "SIGKILL", patience=10)
        server.state = State.DEAD

    def freeze(self, server: Server) -> None:
        self._wrapped(server).pause()
        server.state = State.FROZEN

    def thaw(self, server: Server) -> None:
        self._wrapped(server).unpause()
        server.state = State.RUNNING

    def is_up(self, server: Server) -> bool:
        if server.name not in self._containers:
            return False
        container = self._wrapped(server)
        container.reload()
        return container.status in ("running", "paused")

    def pids(self, server: Server) -> list[int]:
        if not self.is_up(server):
            return []
        main = int(self._wrapped(server).attrs["State"]["Pid"])
        return [main, *sorted(family({main}) - {main})] if Path(f"/proc/{main}").exists() else []

    def log(self, server: Server) -> str:
        return str(self._wrapped(server).logs(tail=60).decode(errors="replace"))

    def close(self) -> None:
        for name in list(self._containers):
            self._remove_container(self._containers.pop(name))
        network, self._network = self._network, None
        if network is not None:
            network.remove()
            network._docker.client.close()
        ports.release(self._ports)

    def _create(self, server: Server, source: Server | None) -> None:
        from docker.errors import DockerException  # type: ignore[import-untyped,unused-ignore]
        from testcontainers.core.container import DockerContainer

        plan = self._recipe.plan(server, source)
        container = DockerContainer(self._image).with_command(list(plan.command)).with_envs(**plan.environment)
        container.with_name(f"rds-router-lab-{server.name}-{uuid.uuid4().hex[:8]}")
        assert self._network is not None
        container.with_network(self._network).with_network_aliases(server.name)
        container.with_kwargs(labels={"rds_router.lab": str(self._guard.directory)}, **plan.extra)
        # with_bind_ports() knows no address, and the engine's default may be all of them.
        bound: dict[str, Any] = container.ports
        bound[f"{self._recipe.port}/tcp"] = ("127.0.0.1", server.port)
        self._containers[server.name] = container
        try:
            with _without_reaper():
                container.start()
        except DockerException as error:
            if not self._has_image():
                raise EngineMissing(f"no image {self._image} here, and it cannot be fetched: {error}") from error
            raise ServerFailed(f"{server.name}: cannot start a container of {self._image}: {error}") from error
        self._guard.watch("container", str(self._wrapped(server).id))
        server.state = State.RUNNING
        self._wait_until_it_answers(server)
        if source is None or not self._recipe.clones:
            self._recipe.finish(server)

    def _has_image(self) -> bool:
        import docker  # type: ignore[import-untyped,unused-ignore]

        client = docker.from_env()
        try:
            client.images.get(self._image)
        except docker.errors.DockerException:
            return False
        finally:
            client.close()
        return True

    def _remove(self, server: Server) -> None:
        container = self._containers.pop(server.name, None)
        if container is not None:
            self._remove_container(container)
        server.state = State.DEAD

    def _remove_container(self, container: DockerContainer) -> None:
        from docker.errors import DockerException
        from testcontainers.core.exceptions import ContainerStartException

        # It may be paused, or may never have come to be.
        with contextlib.suppress(DockerException, ContainerStartException, AttributeError):
            container.get_wrapped_container().unpause()
        with contextlib.suppress(DockerException):
            container.stop()

    def _wait_until_it_answers(self, server: Server) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        why = ""
        while self.is_up(server):
            try:
                self._recipe.check(server)
                return
            except LabError as error:
                why = str(error)
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"{server.name} did not answer within {START_TIMEOUT:.0f} s ({why}):\n{self.log(server)}"
                )
            time.sleep(0.1)
        server.state = State.DEAD
        raise ServerFailed(f"{server.name} ended by itself:\n{self.log(server)}")

    def _signal(self, server: Server, signal: str, *, patience: float) -> None:
        container = self._wrapped(server)
        container.kill(signal=signal)
        deadline = time.monotonic() + patience
        while self.is_up(server) and time.monotonic() < deadline:
            time.sleep(0.05)

    def _wrapped(self, server: Server) -> Any:
        return self._containers[server.name].get_wrapped_container()


@contextlib.contextmanager
def _without_reaper() -> Iterator[None]:
    from testcontainers.core.config import testcontainers_config

    before = testcontainers_config.ryuk_disabled
    testcontainers_config.ryuk_disabled = True
    try:
        yield
    finally:
        testcontainers_config.ryuk_disabled = before


OFFICIAL_IMAGES = {name: container_recipe(engine, {}).official_image for name, engine in ENGINES.items()}
"""What is started when no image is named."""
