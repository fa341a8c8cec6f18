"""This machine, as its files and programs tell. Nothing is changed, and nothing is asked over a network."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from functools import cached_property
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from modelyard.processes import child_env
from modelyard_sandbox.doctor.findings import Absent


class Machine:
    """Readings of this machine; each raises `Absent` where there is nothing to read.

    Args:
        root: where `proc`, `sys` and `etc` lie.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self._said: dict[tuple[str, ...], str] = {}

    # -- files ------------------------------------------------------------------------------

    def text(self, path: str) -> str:
        """The content of a file, e.g. `proc/version`."""
        try:
            return (self.root / path).read_text(errors="replace")
        except OSError as fault:
            raise Absent(f"/{path} can't be read: {fault.strerror}") from None

    def number(self, path: str) -> int:
        """The number in a file."""
        try:
            return int(self.text(path).split()[0])
        except (ValueError, IndexError):
            raise Absent(f"/{path} holds no number") from None

    @cached_property
    def hostname(self) -> str:
        """The machine's name."""
        return self.text("proc/sys/kernel/hostname").strip()

    @cached_property
    def kernel(self) -> str:
        """The kernel's release."""
        return self.text("proc/sys/kernel/osrelease").strip()

    @cached_property
    def system(self) -> str:
        """The name and version of the operating system."""
        try:
            lines = dict(line.partition("=")[::2] for line in self.text("etc/os-release").splitlines())
            return lines.get("PRETTY_NAME", "").strip('"') or platform.platform()
        except Absent:
            return platform.platform()

    @cached_property
    def memory_free(self) -> int:
        """Bytes of memory that programs could still take."""
        for line in self.text("proc/meminfo").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        raise Absent("/proc/meminfo does not say how much memory is free")

    @cached_property
    def booted(self) -> float:
        """When the machine was started, in seconds since 1970."""
        for line in self.text("proc/stat").splitlines():
            if line.startswith("btime "):
                return float(line.split()[1])
        raise Absent("/proc/stat does not say when the machine was started")

    def processes(self, name: str) -> Iterator[str]:
        """The folders in `/proc` of the processes of that name."""
        for file in (self.root / "proc").glob("[0-9]*/comm"):
            try:
                if file.read_text().strip() == name:
                    yield f"proc/{file.parent.name}"
            except OSError:  # it has just ended
                continue

    def routes(self) -> list[tuple[str, IPv4Network]]:
        """Where packets go, other than by the default route: network interface and addresses."""
        found = []
        for line in self.text("proc/net/route").splitlines()[1:]:
            words = line.split()
            if len(words) < 8:
                continue
            address, mask = (int.from_bytes(bytes.fromhex(words[i]), "little") for i in (1, 7))
            if mask:
                network = IPv4Network((address & mask, mask.bit_count()))
                found.append((words[0], network))
        return found

    def localhost_addresses(self) -> list[str]:
        """What `/etc/hosts` says that `localhost` is, in its order."""
        lines = (line.partition("#")[0].split() for line in self.text("etc/hosts").splitlines())
        return [words[0] for words in lines if "localhost" in words[1:]]

    @staticmethod
    def free(folder: Path) -> int:
        """Bytes that are free where a folder is, or will be."""
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        try:
            return shutil.disk_usage(folder).free
        except OSError as fault:
            raise Absent(f"the disk of {folder} can't be asked: {fault.strerror}") from None

    # -- programs ---------------------------------------------------------------------------

    @staticmethod
    def program(name: str) -> Path | None:
        """A command on PATH, or None."""
        found = shutil.which(name)
        return Path(found) if found else None

    def said_by(self, *argv: str) -> str:
        """What a command prints; it is run once."""
        if argv not in self._said:
            if self.program(argv[0]) is None:
                raise Absent(f"the command `{argv[0]}` is not on PATH")
            try:
                done = subprocess.run(
                    argv,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    timeout=20,
                    env=child_env(),
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as fault:
                raise Absent(f"`{' '.join(argv)}` can't be run: {fault}") from None
            self._said[argv] = done.stdout
        return self._said[argv]

    # -- settings ---------------------------------------------------------------------------

    @cached_property
    def proxies(self) -> dict[str, str]:
        """Proxies of the environment for `http`, `https` and `all`, without user and password, and `no`."""
        found = urllib.request.getproxies()
        return {
            name: without_login(value) if name != "no" else value
            for name, value in found.items()
            if name in ("http", "https", "all", "no")
        }

    @cached_property
    def docker_config(self) -> dict[str, Any]:
        """The configuration of the `docker` command; empty if there is none."""
        try:
            found = json.loads((docker_folder() / "config.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @cached_property
    def daemon_config(self) -> dict[str, Any]:
        """`/etc/docker/daemon.json`; empty if there is none."""
        try:
            found = json.loads(self.text("etc/docker/daemon.json"))
        except (Absent, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def docker_folder() -> Path:
    """Where the `docker` command keeps its configuration."""
    return Path(os.environ.get("DOCKER_CONFIG") or "~/.docker").expanduser()


def without_login(url: str) -> str:
    """An address without user and password.

    Example:
        >>> without_login("http://me:secret@proxy:3128"), without_login("proxy:3128")
        ('http://proxy:3128', 'proxy:3128')
    """
    parts = urlsplit(url if "://" in url else f"//{url}")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().removeprefix("//")
