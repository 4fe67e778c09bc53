"""A hub of one repository on this machine, that can be made to break off."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer:
    """Serves files as the hub does; ``requests`` records what was asked for."""

    def __init__(self, repository: str, files: dict[str, bytes]) -> None:
        self.repository = repository
        self.files = files
        self.break_after: int | None = None
        """Bytes of a large file after which the connection ends, and that no later request gets beyond."""
        self.requests: list[tuple[str, str, str]] = []
        """Method, file and Range of each request."""
        self.endpoint = ""

    @contextmanager
    def running(self) -> Iterator[HubServer]:
        """Serve until the block ends."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                found = re.fullmatch(rf"/{re.escape(hub.repository)}/resolve/[^/]+/([\w.]+)(\?.*)?", self.path)
                name = found[1] if found else self.path
                asked = self.headers.get("Range", "")
                hub.requests.append((self.command, name, asked))
                if name not in hub.files:
                    self.send_response(404)
                    self.send_header("Content-Length", "0")
                    self.send_header("Connection", "close")
                    self.end_headers()
                    return
                content = hub.files[name]
                start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(content) - start))
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Connection", "close")
                self.end_headers()
                if body:
                    end = len(content) if hub.break_after is None or len(content) < 10_000 else hub.break_after
                    self.wfile.write(content[start:end])

            def log_message(self, format: str, *args: object) -> None:
                """Keep quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
