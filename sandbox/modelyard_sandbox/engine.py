"""The Docker engine, spoken to through its SDK and the context that the `docker` command would take."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

from modelyard_sandbox.errors import EngineUnavailable


class Engine:
    """A Docker engine.

    Raises:
        EngineUnavailable: `docker-unreachable`, on first use.
    """

    @cached_property
    def client(self) -> Any:
        """The SDK's client, connected."""
        import docker
        import docker.errors

        address, client = endpoint(), None
        try:
            client = docker.DockerClient(base_url=address) if address else docker.from_env()
            client.ping()
        except (docker.errors.DockerException, OSError) as fault:
            if client is not None:
                client.close()
            said = " ".join(str(fault).split())[:200]
            where = os.environ.get("DOCKER_HOST") or address or "its socket"
            raise EngineUnavailable(
                "docker-unreachable",
                f"no Docker engine answers at {where}: {said}",
                "start Docker, then: modelyard sandbox doctor",
            ) from None
        return client

    @cached_property
    def info(self) -> dict[str, Any]:
        """What the engine says about itself and its machine."""
        found: dict[str, Any] = self.client.info()
        return found

    @property
    def architecture(self) -> str:
        """The platform of its images, as registries name it."""
        machine = str(self.info.get("Architecture", ""))
        return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)

    def container(self, name: str) -> Any | None:
        """The container of that name, fresh, or None."""
        import docker.errors

        try:
            return self.client.containers.get(name)
        except docker.errors.NotFound:
            return None

    def has_image(self, reference: str) -> bool:
        """Whether the engine holds an image."""
        import docker.errors

        try:
            self.client.images.get(reference)
        except docker.errors.ImageNotFound:
            return False
        return True


def endpoint() -> str | None:
    """Where the `docker` command would go: `DOCKER_HOST`, else the current context; None: the default."""
    if os.environ.get("DOCKER_HOST"):
        return None
    from docker.context import ContextAPI

    named = os.environ.get("DOCKER_CONTEXT")
    context = ContextAPI.get_context(named or None)
    if named and context is None:
        raise EngineUnavailable(
            "docker-context-unknown",
            f"there is no Docker context '{named}', which DOCKER_CONTEXT names",
            "docker context ls, or: unset DOCKER_CONTEXT",
        )
    host = (context.endpoints.get("docker") or {}).get("Host") if context else None
    return str(host) if host else None
