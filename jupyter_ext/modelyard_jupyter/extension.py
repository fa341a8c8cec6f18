"""Hangs the panel's questions into a Jupyter server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jupyter_server.utils import url_path_join

from modelyard_jupyter.events import EventsHandler
from modelyard_jupyter.handlers import PROJECT, routes
from modelyard_jupyter.yards import Yards


def load(server: Any) -> None:
    """Register the handlers on a `jupyter_server.serverapp.ServerApp`.

    The workers need no goodbye: they end when the server's end of their pipes closes.
    """
    web = server.web_app
    web.settings["modelyard_yards"] = Yards(Path(server.root_dir))
    api = url_path_join(web.settings["base_url"], "modelyard", "api", "v1")
    web.add_handlers(".*$", [*routes(api), (url_path_join(api, PROJECT, "events"), EventsHandler, {})])
    server.log.debug("modelyard: the panel's server is ready")
