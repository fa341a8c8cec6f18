"""An HTTP server on 127.0.0.1 whose answers a function gives."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

#: Takes method, path and query (with the header `Host` among it), gives status and body.
Answer = Callable[[str, str, dict[str, str]], tuple[int, Any]]


class Server:
    """Answers as the function says, until it is closed."""

    def __init__(self, answer: Answer) -> None:
        self.asked = asked = list[str]()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65536  # one packet per answer: the second of two would wait for an acknowledgement

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                asked.append(parts.path)
                query = {key: values[0] for key, values in parse_qs(parts.query).items()}
                query["host"] = self.headers.get("Host", "")
                status, found = answer(self.command, parts.path, query)
                body = found.encode() if isinstance(found, str) else json.dumps(found).encode()
                self.send_response(status)
                self.send_header(
                    "Content-Type", "text/plain" if isinstance(found, str) else "application/json"
                )
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None: ...  # clients leave when they have what they want

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
