"""A real HTTP server for one file, with the habits and faults of servers in the field."""

import base64
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What is served and how.

    Attributes:
        content: The file, at every path.
        etag: Its version; None: none is sent.
        modified: Last-Modified; None: none is sent.
        ranges: Whether parts can be asked for.
        believes_if_range: False: sends parts even of a version that was not asked for.
        cut_after: Bytes of a body after which the connection is closed, once for each entry.
        chunked: Without Content-Length.
        silent: Announces the file and then sends nothing, or nothing after the bytes of `cut_after`.
        redirects: Location by path.
        login: `user:password` that is asked for.
        status: An error to answer with.
        kind: Content-Type.
        requests: What was asked for: path and headers.
    """

    content: bytes
    etag: str | None = '"1"'
    modified: str | None = None
    ranges: bool = True
    believes_if_range: bool = True
    cut_after: list[int] = field(default_factory=list)
    chunked: bool = False
    silent: bool = False
    redirects: dict[str, str] = field(default_factory=dict)
    login: str = ""
    status: int = 0
    kind: str = "application/zip"
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""
    closing: threading.Event = field(default_factory=threading.Event)

    def ranges_asked(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.requests]


class Handler(BaseHTTPRequestHandler):
    """Answers GET by the site's rules."""

    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        site = self.site
        site.requests.append((self.path, dict(self.headers)))
        expected = f"Basic {base64.b64encode(site.login.encode()).decode()}"
        path = self.path.partition("?")[0]
        if path in site.redirects:
            self.answer(302, b"moved", {"Location": site.redirects[path]})
        elif site.status:
            self.answer(site.status, b"<html>an error page</html>", {"Content-Type": "text/html"})
        elif site.login and self.headers.get("Authorization") != expected:
            self.answer(401, b"who are you?", {"WWW-Authenticate": "Basic"})
        else:
            self.send_file()

    def send_file(self) -> None:
        site = self.site
        headers = {"Content-Type": site.kind}
        headers |= {"ETag": site.etag} if site.etag else {}
        headers |= {"Last-Modified": site.modified} if site.modified else {}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if site.ranges else None
        condition = self.headers.get("If-Range")
        if condition and site.believes_if_range and condition not in (site.etag, site.modified):
            asked = None
        start, size = int(asked[1]) if asked else 0, len(site.content)
        if asked and start >= size:
            self.answer(416, b"", {"Content-Range": f"bytes */{size}"})
            return
        if asked:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        self.answer(206 if asked else 200, site.content[start:], headers)

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        site = self.site
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        chunked = site.chunked and status in (200, 206)
        self.send_header(
            "Transfer-Encoding" if chunked else "Content-Length", "chunked" if chunked else str(len(body))
        )
        self.end_headers()
        self.wfile.flush()
        if status in (200, 206) and (site.cut_after or site.silent):
            self.wfile.write(body[: site.cut_after.pop(0) if site.cut_after else 0])
            self.wfile.flush()
            if site.silent:
                site.closing.wait()
            self.close_connection = True
        elif chunked:
            for i in range(0, len(body), 10_000):
                part = body[i : i + 10_000]
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.wfile.write(body)


@contextmanager
def serve(site: Site) -> Iterator[Site]:
    """Serve until the block ends; `site.url` is the file's address."""
    handler = type("HandlerOfOneSite", (Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}/data/images.zip"
    try:
        yield site
    finally:
        site.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
