"""Run a command in a network namespace without any route; ports of this machine are carried in.

    python no_network.py PORT... -- COMMAND...

Inside, a port is listened on as soon as somebody outside listens on it, so that it looks free until then.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

Open = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, open_other: Open) -> None:
    """Join a caller with what `open_other` opens."""
    try:
        other_reader, other_writer = await open_other()
    except OSError:
        writer.close()
        return
    await asyncio.gather(_copy(reader, other_writer), _copy(other_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


async def outside(folder: Path, ports: list[int], command: list[str]) -> int:
    """Carry from sockets in the folder to ports of this machine, while the command runs without a network."""
    for port in ports:

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int = port) -> None:
            await carry(reader, writer, lambda: asyncio.open_connection("127.0.0.1", port))

        await asyncio.start_unix_server(serve, folder / f"{port}.sock")
    inner = [sys.executable, __file__, "--inside", str(folder), *map(str, ports), "--", *command]
    process = await asyncio.create_subprocess_exec("unshare", "--net", "--", *inner)
    watching = asyncio.create_task(_watch(folder, ports))
    status = await process.wait()
    watching.cancel()
    return status


async def _watch(folder: Path, ports: list[int]) -> None:
    closed = set(ports)
    while closed:
        for port in list(closed):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                (folder / f"{port}.open").touch()
                closed.discard(port)
        await asyncio.sleep(0.2)


async def inside(folder: Path, ports: list[int], command: list[str]) -> int:
    """Listen on ports that are open outside, and run the command."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    process = await asyncio.create_subprocess_exec(*command)
    listening = asyncio.create_task(_listen(folder, ports))
    status = await process.wait()
    listening.cancel()
    return status


async def _listen(folder: Path, ports: list[int]) -> None:
    closed = set(ports)
    while closed:
        for port in [port for port in closed if (folder / f"{port}.open").exists()]:

            async def serve(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int = port
            ) -> None:
                await carry(reader, writer, lambda: asyncio.open_unix_connection(folder / f"{port}.sock"))

            await asyncio.start_server(serve, "127.0.0.1", port)
            closed.discard(port)
        await asyncio.sleep(0.1)


def main() -> int:
    """Run the command; its exit status is ours."""
    end = sys.argv.index("--")
    command = sys.argv[end + 1 :]
    if sys.argv[1] == "--inside":
        return asyncio.run(inside(Path(sys.argv[2]), [int(p) for p in sys.argv[3:end]], command))
    with tempfile.TemporaryDirectory(prefix="no-network-") as folder:
        return asyncio.run(outside(Path(folder), [int(p) for p in sys.argv[1:end]], command))


if __name__ == "__main__":
    sys.exit(main())
