"""`serve`: the page for a run folder, what it gives and what it refuses."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

import tfcnn
from tfcnn.export.serve import make_server, serve

PAGES = {"/web/": "text/html; charset=utf-8", "/web/index.html": "text/html; charset=utf-8", "/web/app.js": "text/javascript",
         "/web/style.css": "text/css", "/model.json": "application/json", "/models/float32.tflite": "application/octet-stream",
         "/web/litert/core/wasm/runtime.wasm": "application/wasm"}


@pytest.fixture
def no_npm(monkeypatch, tmp_path):
    """LiteRT.js is one small file."""
    (tmp_path / "runtime.wasm").write_bytes(b"\0asm")
    monkeypatch.setattr("tfcnn.export.serve.fetch_litertjs", lambda: {"core/wasm/runtime.wasm": tmp_path / "runtime.wasm"})


@pytest.fixture
def server(shipped, no_npm):
    """The port of a server for the shipped run."""
    yield from running(make_server(shipped[0], port=0))


@pytest.fixture
def whole_server(shipped, litertjs):
    """The same with LiteRT.js."""
    yield from running(make_server(shipped[0].path, port=0))


def running(server):
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def ask(port: int, path: str, method: str = "GET", **headers: str):
    """(status, headers, body), without a client that tidies up paths."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


@pytest.mark.parametrize(("path", "kind"), PAGES.items())
def test_every_file_comes_with_its_type_and_is_not_kept(server, path, kind):
    status, headers, body = ask(server, path)
    assert status == 200 and headers["Content-Type"] == kind and headers["Cache-Control"] == "no-store"
    assert len(body) == int(headers["Content-Length"]) > 0
    status, headers, nothing = ask(server, path, "HEAD")
    assert status == 200 and nothing == b"" and int(headers["Content-Length"]) == len(body)


def test_the_files_are_those_of_the_run(server, shipped):
    run, _, exports = shipped
    description = json.loads(ask(server, "/model.json?x=1")[2])
    assert description["labels"] == run.labels and description["expected"] is None
    assert [row["file"] for row in description["models"]] == ["models/float32.tflite", "models/float16.tflite", "models/int8.tflite"]
    for row, e in zip(description["models"], exports, strict=True):
        assert ask(server, f"/{row['file']}")[2] == (run.path / e.path).read_bytes()
    status, headers, _ = ask(server, "/")
    assert status == 302 and headers["Location"] == "/web/"


@pytest.mark.parametrize("path", ["/run.json", "/model.keras", "/web/../run.json", "/models/../../run.json", "/models/%2e%2e/run.json", "//etc/passwd",
                                  "/models/", "/web/litert/", "/web", "/web/package.json", "/models/float32.tflite/", "/..", "/web/\\..\\run.json"])
def test_nothing_else_can_be_reached(server, path):
    assert ask(server, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_sent(server, method):
    assert ask(server, "/web/", method)[0] == 501


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1", "localhost.example.org", ""])
def test_a_foreign_name_that_points_here_is_refused(server, host):
    assert ask(server, "/model.json", Host=host)[0] == 403


def test_localhost_is_no_foreign_name(server):
    assert ask(server, "/model.json", Host=f"localhost:{server}")[0] == 200


def test_only_this_computer_is_listened_to(shipped, no_npm):
    with make_server(shipped[0], port=0) as server:
        assert server.server_address[0] == "127.0.0.1"


def test_a_file_that_goes_while_it_is_served_is_not_found(server, tmp_path):
    (tmp_path / "runtime.wasm").unlink()
    assert ask(server, "/web/litert/core/wasm/runtime.wasm")[0] == 404


@pytest.mark.parametrize("port", [-1, 65536, True, "80"])
def test_a_port_is_a_number(shipped, port):
    with pytest.raises(tfcnn.InputError, match="port from 0 to 65535"):
        serve(shipped[0], port=port)


def test_a_port_that_is_taken_is_named(shipped, no_npm):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(tfcnn.InputError, match=f"port {port} is taken; give another --port"):
            serve(shipped[0], port=port)


def test_a_run_without_a_file_to_ship_says_how_to_make_one(trained):
    with pytest.raises(tfcnn.InputError, match=r"found none; write one with 'tfcnn export .* --format tflite_float32'"):
        serve(trained[0], port=0)


def test_without_npm_it_says_what_to_install(shipped, tmp_path, monkeypatch):
    monkeypatch.setenv("TFCNN_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(tfcnn.InputError, match="expected npm"):
        serve(shipped[0], port=0)


def test_ctrl_c_ends_it_without_a_word(shipped, litertjs):
    # The handler that a terminal leaves: a test run in the background starts its children with Ctrl-C ignored.
    code = "import signal, sys, tfcnn.export.serve as s; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "s.serve(sys.argv[1], port=0, ready=lambda address: print(address, flush=True))"
    process = subprocess.Popen([sys.executable, "-c", code, str(shipped[0].path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    port = int(process.stdout.readline().rstrip("/\n").rpartition(":")[2])
    assert ask(port, "/web/")[0] == 200
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=30)
    assert (process.returncode, out, errors) == (0, "", "")


def test_the_page_runs_the_files_of_the_run(whole_server, page, shipped, tmp_path):
    run, _, _ = shipped
    pixels = np.random.default_rng(2).integers(0, 120, (64, 64, 3))
    pixels[..., 1] += 110
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photo.png")
    (expected,) = tfcnn.predict(run, [tmp_path / "photo.png"])
    page.goto(f"http://localhost:{whole_server}/")
    page.locator("#status", has_text="Ready").wait_for()
    assert page.is_hidden("#golden") and page.inner_text("h1") == "colours"
    for file in ("float32.tflite", "int8.tflite"):
        page.get_by_label(file).check()
        page.set_input_files("#file", tmp_path / "photo.png")
        page.locator("#status", has_text="ms on this device").wait_for()
        label, score = page.locator("#answers li").first.inner_text().split("\n")
        assert label == expected.label
        assert float(score.removesuffix(" %")) / 100 == pytest.approx(expected.score, abs=0.002 if file == "float32.tflite" else 0.1)
