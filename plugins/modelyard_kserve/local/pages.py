"""The controller's pages: what the project serves, for people and for Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
import html
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path

from modelyard_kserve.local.addresses import Route
from modelyard_kserve.local.statistics import EXPOSITION

_HEAD_LIMIT = 128 * 1024
_SECONDS = 10.0
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #1a1a1a; background: #fff }
table { border-collapse: collapse } th, td { text-align: left; padding: .3rem 1.2rem .3rem 0 }
th, td { border-bottom: 1px solid #ccc }
@media (prefers-color-scheme: dark) { body { color: #e6e6e6; background: #161616 } a { color: #8ab4f8 } }
"""

#: What is shown of one revision: its name, model/version, percent of the traffic, and its state in words.
Line = tuple[str, str, int, str]


async def serve(
    path: Path, status: Callable[[], str], metrics: Callable[[], Awaitable[str]]
) -> asyncio.AbstractServer:
    """Answer `GET /` and `GET /metrics` on a socket that Envoy alone asks."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _SECONDS)
            page = head.split(b" ")[1].partition(b"?")[0] == b"/"
            body = (status() if page else await metrics()).encode()
            kind = "text/html; charset=utf-8" if page else EXPOSITION
            lines = [
                "HTTP/1.1 200 OK",
                f"content-type: {kind}",
                f"content-length: {len(body)}",
                "content-security-policy: default-src 'none'; style-src 'unsafe-inline'",
                "cache-control: no-store",
                "connection: close",
                "",
                "",
            ]
            writer.write("\r\n".join(lines).encode() + (b"" if head.startswith(b"HEAD ") else body))
            await writer.drain()
        writer.close()

    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(connected, str(path), limit=_HEAD_LIMIT)
    path.chmod(0o600)
    return server


def status_page(endpoints: Iterable[tuple[Route, Sequence[Line]]]) -> str:
    """One table: endpoints with their revisions.

    Example:
        >>> page = status_page([(Route("late", "default", ()), [("late-00001", "late/1", 100, "ready")])])
        >>> "<td>late-00001</td><td>late/1</td><td>100 %</td><td>ready</td>" in page
        True
    """
    rows = []
    for route, lines in endpoints:
        for place, (revision, model, percent, state) in enumerate(lines):
            name = _linked(route) if not place else ""
            cells = [name, *(html.escape(text) for text in (revision, model, f"{percent} %", state))]
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "".join(
        f"<th scope=col>{title}</th>" for title in ("Endpoint", "Revision", "Model", "Traffic", "State")
    )
    body = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">'
        f"<title>Endpoints</title><style>{_STYLE}</style></head><body><main><h1>Endpoints</h1>"
        f"{body if rows else '<p>None yet.</p>'}"
        '<p><a href="/metrics">What was counted</a>, for Prometheus</p></main></body></html>\n'
    )


def _linked(route: Route) -> str:
    """The endpoint's name with what it says of itself: its model, and everything that it answers to."""
    path = html.escape(route.path)
    name = html.escape(route.name)
    return f'<a href="{path}/v2/models/{name}">{name}</a> (<a href="{path}/openapi.json">OpenAPI</a>)'


def labelled(expositions: Mapping[str, str]) -> str:
    """What several processes counted as one exposition: each sample says by `replica` whose it is.

    Args:
        expositions: what each said, by the process' name.

    Example:
        >>> said = "# TYPE in_flight gauge\\nin_flight 2\\n"
        >>> print(labelled({"a": said, "b": said}))
        # TYPE in_flight gauge
        in_flight{replica="a"} 2
        in_flight{replica="b"} 2
        <BLANKLINE>
    """
    families: dict[str, list[str]] = {}
    for replica, text in expositions.items():
        head = ""
        for line in text.splitlines():
            if line.startswith("#"):
                # HELP stands before TYPE: both together are the head of a family.
                begun = line.startswith("# TYPE") and head.startswith("# HELP")
                head = f"{head}\n{line}" if begun else line
                continue
            name, _, rest = line.rpartition(" ")
            labels = name.endswith("}")
            said = f'{name[:-1]},replica="{replica}"}}' if labels else f'{name}{{replica="{replica}"}}'
            families.setdefault(head, []).append(f"{said} {rest}")
    return "".join("\n".join(filter(None, [head, *samples])) + "\n" for head, samples in families.items())
