"""What the browser may ask: every handler authenticates, takes ids and no paths, and asks a worker."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

from modelyard.errors import ModelyardError, NotFoundError
from modelyard_jupyter import __version__
from modelyard_jupyter.supervisor import WorkerDied
from modelyard_jupyter.yards import Yards

_LARGEST = 1 << 20
_KEY = re.compile(r"[A-Za-z0-9-]{8,64}")
#: Seconds for which what changes or makes something is waited for.
_CHANGING = 300.0
#: Seconds that others may take, with the start of the process that answers: on a busy machine that is most.
LIMIT = 60.0
#: A project in an address, and anything that has a name.
PROJECT, _NAME = "projects/([0-9a-f]{12})", "([^/]+)"


@dataclass(frozen=True)
class Question:
    """What an address asks of the worker.

    Attributes:
        path: below the project's address; a pattern.
        names: what the pattern's parts are called.
        read: the question of a GET, or None.
        change: the question of a POST, or None.
        limit: seconds that a GET is waited for.
    """

    path: str
    names: tuple[str, ...] = ()
    read: str | None = None
    change: str | None = None
    limit: float = LIMIT


QUESTIONS = (
    Question("overview", read="overview"),
    Question("doctor", read="doctor"),
    Question("history", read="history"),
    Question("runs", read="runs"),
    Question("compare", read="compare"),
    Question(f"runs/{_NAME}", ("run",), read="run"),
    Question(f"runs/{_NAME}/curves", ("run",), read="curves"),
    Question(f"runs/{_NAME}/log", ("run",), read="run-log"),
    Question(f"runs/{_NAME}/register", ("run",), change="register"),
    Question("data", read="data"),
    Question("data/push", change="push"),
    Question("data/pull", change="pull"),
    Question(f"jobs/{_NAME}", ("job",), read="job"),
    Question("models", read="models"),
    Question(f"models/{_NAME}/versions/{_NAME}", ("model", "version"), read="version"),
    Question(f"models/{_NAME}/promotion", ("model",), read="promotion"),
    Question(f"models/{_NAME}/promote", ("model",), change="promote"),
    Question(f"models/{_NAME}/rollback", ("model",), read="rollback-plan", change="rollback"),
    Question("endpoints", read="endpoints"),
    Question(f"endpoints/{_NAME}", ("endpoint",), read="endpoint"),
    Question(f"endpoints/{_NAME}/log", ("endpoint",), read="endpoint-log"),
    Question(f"endpoints/{_NAME}/traffic", ("endpoint",), change="traffic"),
    Question(f"endpoints/{_NAME}/try", ("endpoint",), change="try"),
    Question("drift", read="drift"),
    Question(f"reports/{_NAME}", ("endpoint",), read="report", limit=_CHANGING),
)


class Handler(APIHandler):
    """What all have in common: errors as JSON, no caching."""

    @property
    def yards(self) -> Yards:
        """The server's projects."""
        found: Yards = self.settings["modelyard_yards"]
        return found

    def refuse(self, status: int, code: str, message: str, hint: str = "") -> None:
        """Answer with a `Problem`."""
        problem: dict[str, object] = {
            "code": code,
            "message": message,
            "hint": hint,
            "plugin": None,
            "details": {},
        }
        self.answer(status, json.dumps(problem).encode())

    def answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        """Send the answer."""
        self.set_status(status)
        self.set_header("Cache-Control", "no-store")
        self.finish(body, set_content_type=kind)

    async def ask(
        self, project: str, what: str, arguments: dict[str, Any], limit: float, again: bool = False
    ) -> None:
        """Pass a question to the project's worker, and its answer to the browser."""
        try:
            found = await self.yards.get(project)
            worker = await self.yards.worker(found)
            status, body = await worker.ask(what, arguments, limit, again)
        except NotFoundError as fault:
            self.refuse(404, fault.code, fault.message, fault.hint)
        except ModelyardError as fault:  # its modelyard.toml can't be read
            self.refuse(400, fault.code, fault.message, fault.hint)
        except TimeoutError:
            self.refuse(
                504, "timed-out", f"there is no answer after {limit:.0f} s", "try again, or: modelyard doctor"
            )
        except WorkerDied:
            self.refuse(503, "worker-died", "the process that reads this project ended", "try again")
        else:
            if what == "report" and status == 200:
                # A page of another tool: its scripts see nothing but themselves.
                rules = "sandbox allow-scripts; default-src 'unsafe-inline' data: blob:"
                self.set_header("Content-Security-Policy", rules)
                self.answer(status, body, "text/html; charset=utf-8")
            else:
                self.answer(status, body)


class SummaryHandler(Handler):
    """The only question that is asked all the time, answered without the worker."""

    _track_activity = False  # an open panel does not keep a server from being put to sleep

    @web.authenticated
    async def get(self) -> None:
        """Versions, projects, and a stamp per section."""
        asked, near = (self.get_query_argument(name, "") for name in ("project", "near"))
        found, chosen, target, stamps = await self.yards.look(asked, near)
        said: dict[str, Any] = {
            "version": __version__,
            "projects": [{"id": one.id, "name": one.root.name, "folder": one.folder} for one in found],
            "project": chosen and chosen.id,
        }
        if chosen is not None:
            said |= {"target": target, "stamps": stamps}
        self.finish(json.dumps(said))  # tornado compares ETags itself


class QuestionHandler(Handler):
    """Passes a question on. What changes something is done once per key, by a user with a name."""

    def initialize(self, question: Question) -> None:
        """Tornado's way to say which address this is."""
        self._question = question

    @web.authenticated
    async def get(self, project: str, *parts: str) -> None:
        """Ask what changes nothing."""
        if self._question.read is None:
            raise web.HTTPError(405)
        query = {name: self.get_query_argument(name) for name in self.request.query_arguments}
        arguments = {**query, **self._named(parts)}
        await self.ask(project, self._question.read, arguments, self._question.limit, again=True)

    @web.authenticated
    async def post(self, project: str, *parts: str) -> None:
        """Ask for a change."""
        if self._question.change is None:
            raise web.HTTPError(405)
        key = self.request.headers.get("Idempotency-Key", "")
        if len(self.request.body) > _LARGEST:
            self.refuse(413, "request-too-large", f"the body is larger than {_LARGEST} bytes")
            return
        if not _KEY.fullmatch(key):
            said = "a change needs the header Idempotency-Key, 8 to 64 letters, digits or '-'"
            self.refuse(400, "key-missing", said)
            return
        try:
            wish = json.loads(self.request.body)
        except ValueError as fault:
            self.refuse(400, "request-invalid", f"the body is no JSON: {fault}")
            return
        arguments = {"wish": wish, "key": key, "user": self._user(), **self._named(parts)}
        await self.ask(project, self._question.change, arguments, _CHANGING)

    def _named(self, parts: tuple[str, ...]) -> dict[str, str]:
        return dict(zip(self._question.names, map(unquote, parts)))

    def _user(self) -> str | None:
        """Who is logged in; None where Jupyter made a name up, because a token is nobody."""
        made_up = type(self.identity_provider).__name__ in ("IdentityProvider", "PasswordIdentityProvider")
        return None if made_up else str(self.current_user.username)


def routes(api: str) -> list[tuple[str, type[APIHandler], dict[str, Any]]]:
    """Every address that is answered by the server or a worker, below the panel's own address."""
    found: list[tuple[str, type[APIHandler], dict[str, Any]]]
    found = [(url_path_join(api, "summary"), SummaryHandler, {})]
    for question in QUESTIONS:
        address = url_path_join(api, PROJECT, question.path)
        found.append((address, QuestionHandler, {"question": question}))
    return found
