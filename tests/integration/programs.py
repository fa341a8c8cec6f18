"""Programs that tests serve: they speak V2 without any framework, on the port that Knative names."""

from __future__ import annotations

_SERVER = """
import http.server, json, os, pathlib, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({"ready": True})
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(%s)
    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def answering(said: str) -> str:
    """A program that answers every POST with the value of an expression of `os`, `pathlib`, `sys`."""
    return _SERVER % said
