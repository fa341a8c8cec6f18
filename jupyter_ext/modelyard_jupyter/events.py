"""Server-sent events: a browser that listens hears at once what changed, and how running runs are doing."""

from __future__ import annotations

import asyncio
import json

from tornado import web
from tornado.iostream import StreamClosedError

from modelyard.errors import ModelyardError, NotFoundError
from modelyard_jupyter.handlers import LIMIT, Handler
from modelyard_jupyter.supervisor import WorkerDied

#: Seconds between two looks, and after which a silent line is kept alive. Runs that log many times a second
#: shall neither keep this machine nor the page busy.
_LOOK, _SILENT = 2.0, 15.0


class EventsHandler(Handler):
    """`runs`, with the rows of those that run or just ended, whenever the runs may have changed."""

    _track_activity = False

    @web.authenticated
    async def get(self, project: str) -> None:
        """Until the browser goes."""
        try:
            found = await self.yards.get(project)
            target = await self.yards.target_of(found)
        except NotFoundError as fault:
            self.refuse(404, fault.code, fault.message, fault.hint)
            return
        except ModelyardError as fault:
            self.refuse(400, fault.code, fault.message, fault.hint)
            return
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Accel-Buffering", "no")  # proxies in front of hubs would wait for more
        known = ""
        running: set[str] = set()
        silent = 0.0
        while True:
            stamp = (await self.yards.stamps(found, target))["runs"]
            try:
                if stamp != known:
                    running = await self._tell_runs(project, running)
                    known, silent = stamp, 0.0
                elif silent > _SILENT:
                    self.write(": still here\n\n")
                    await self.flush()
                    silent = 0.0
            except StreamClosedError:
                return
            except (WorkerDied, TimeoutError):
                pass  # whoever asks for the section is told; here it is asked for again
            await asyncio.sleep(_LOOK)
            silent += _LOOK

    async def _tell_runs(self, project: str, before: set[str]) -> set[str]:
        """The rows of runs that run, and of those that did a moment ago."""
        worker = await self.yards.worker(await self.yards.get(project))
        status, body = await worker.ask("runs", {"limit": "100"}, LIMIT, again=True)
        if status != 200:
            return before
        rows = json.loads(body)["rows"]
        now = {row["id"] for row in rows if row["status"] == "running"}
        if told := [row for row in rows if row["id"] in now | before]:
            self.write(f"event: runs\ndata: {json.dumps({'rows': told})}\n\n")
            await self.flush()
        return now
