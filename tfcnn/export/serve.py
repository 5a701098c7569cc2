"""`serve`: the page of the bundle for a run folder, on this computer alone."""

import errno
import logging
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

from tfcnn.errors import InputError
from tfcnn.export.litertjs import fetch_litertjs
from tfcnn.export.page import accepted_files, describe_models, page_files, to_json
from tfcnn.record import Run, check_photos, load_run

ADDRESS = "127.0.0.1"
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".wasm": "application/wasm",
         ".tflite": "application/octet-stream"}  # a browser refuses modules and streamed wasm of other types
CHECKED = ("format", "path", "accepted", "sha256")  # what `accepted_files` asks of an export; a row of run.json that lacks one is damaged
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
           "Cross-Origin-Resource-Policy": "same-origin"}

logger = logging.getLogger(__name__)


def serve(run: Run | str | Path, *, port: int = 8000, ready: Callable[[str], None] | None = None) -> None:
    """Serves the page of a run until Ctrl-C: its accepted TFLite files, run in the browser.

    Args:
        run: a run or its folder.
        port: from 0 to 65535; 0 takes one that is free.
        ready: called with the address once the page can be opened.

    Raises:
        InputError: no TFLite file that may be shipped, a port that cannot be used, or no npm to fetch LiteRT.js with.
        WorkError: LiteRT.js cannot be fetched.
    """
    server = make_server(run, port=port)
    try:
        if ready:
            ready(f"http://{ADDRESS}:{server.server_port}/")
        server.serve_forever()
    except KeyboardInterrupt:  # the way to end it
        pass
    finally:
        server.server_close()


def make_server(run: Run | str | Path, *, port: int = 8000) -> ThreadingHTTPServer:
    """The server that `serve` runs, bound to its port; arguments and errors are the same."""
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise InputError(f"expected a port from 0 to 65535 (0 takes one that is free), got port={port}")
    run = run if isinstance(run, Run) else load_run(run)
    check_photos(run, "serve a page for")
    content = _content(run)

    class Handler(_Handler):
        contents = content

    try:
        server = ThreadingHTTPServer((ADDRESS, port), Handler)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise InputError(f"expected a port that can be used, but port {port} {'is taken' if taken else f'cannot be ({error.strerror})'}; "
                         "give another --port, or 0 for one that is free") from error
    server.daemon_threads = True
    return server


def _content(run: Run) -> dict[str, bytes | Path]:
    """Everything that can be asked for, by its path: nothing else of the computer can be reached."""
    files = accepted_files(run, [SimpleNamespace(**{name: row[name] for name in CHECKED}) for row in run.record.get("exports", [])])
    content: dict[str, bytes | Path] = {f"/web/{name}": page for name, page in page_files(with_litertjs=True).items()}
    content |= {f"/web/litert/{name}": file for name, file in fetch_litertjs().items()}
    content |= {f"/models/{file.name}": file.path for file in files}
    content["/model.json"] = to_json(describe_models(run, files, golden=False))
    return content | {"/web/": content["/web/index.html"]}


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for the paths of `contents`."""

    contents: dict[str, bytes | Path]
    server_version, sys_version = "tfcnn", ""

    def do_GET(self) -> None:
        port = self.connection.getsockname()[1]
        names = [f"{name}:{port}" for name in (ADDRESS, "localhost")] + ([ADDRESS, "localhost"] if port == 80 else [])
        if self.headers.get("Host") not in names:  # a foreign name that was made to point here
            return self._send(HTTPStatus.FORBIDDEN, b"open this page as localhost\n", "text/plain")
        path = self.path.partition("?")[0]
        if path == "/":
            return self._send(HTTPStatus.FOUND, b"", "text/plain", Location="/web/")
        found = self.contents.get(path)
        if isinstance(found, Path):
            try:
                found = found.read_bytes()
            except OSError:  # removed since
                found = None
        if found is None:
            return self._send(HTTPStatus.NOT_FOUND, b"not found\n", "text/plain")
        return self._send(HTTPStatus.OK, found, _type(path))

    do_HEAD = do_GET

    def _send(self, status: HTTPStatus, body: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **HEADERS, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):  # the browser went away
            self.close_connection = True

    def log_message(self, format: str, *values) -> None:
        logger.debug(format, *values)


def _type(path: str) -> str:
    return TYPES.get(Path("index.html" if path.endswith("/") else path).suffix, "text/plain")
