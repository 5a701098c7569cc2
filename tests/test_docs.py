"""The documentation site: it builds without a warning, its links resolve, it asks no other server, and what it quotes stands in the code."""

import ast
import os
import re
import subprocess
import sys
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import keras
import numpy as np
import pytest
from documents import ROOT

import tfcnn
from tfcnn.cli import COMMANDS
from tfcnn.parser import make_parser

LOADED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src", "link": "href", "embed": "src", "object": "data"}


class Page(NamedTuple):
    """What a page of the site links to, what it loads, and what can be linked to in it."""

    links: list[str]
    loaded: list[str]
    anchors: set[str]
    code: list[str]


class _Reader(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.page, self._in_code = Page([], [], set(), []), False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        if tag == "a" and told.get("href"):
            self.page.links.append(told["href"])
        if tag in LOADED and told.get(LOADED[tag]):
            self.page.loaded.append(told[LOADED[tag]])
        self.page.loaded.extend(re.findall(r"url\((.+?)\)", told.get("style") or ""))
        self.page.anchors.update(told[name] for name in ("id", "name") if told.get(name))
        if tag == "code":
            self._in_code = True
            self.page.code.append("")

    def handle_endtag(self, tag):
        self._in_code = self._in_code and tag != "code"

    def handle_data(self, data):
        if self._in_code:
            self.page.code[-1] += data


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site. Notebooks are as `make docs` executed them, or else not executed."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "JUPYTER_PLATFORM_DIRS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    """Every page of the site by its file."""
    return {path: _Reader(path.read_text(encoding="utf-8")).page for path in site.rglob("*.html")}


def test_every_link_and_anchor_leads_somewhere(site, pages):
    broken = []
    for path, page in pages.items():
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            base = site if parts.path.startswith("/") else path.parent
            target = (base / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            if not target.is_file() or (anchor and target.suffix == ".html" and anchor not in pages[target].anchors and anchor != "__skip"):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert len(pages) > 40 and not broken


def test_no_page_loads_anything_from_another_server(site, pages):
    elsewhere = [(path.relative_to(site), source) for path, page in pages.items() for source in page.loaded if urlsplit(source).netloc]
    styles = [path for path in site.rglob("*.css") if re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", path.read_text(encoding="utf-8"))]
    assert not elsewhere and not styles


def test_every_public_name_is_in_the_reference(pages):
    anchors = {anchor for path, page in pages.items() if "reference" in path.parts for anchor in page.anchors}
    assert {f"tfcnn.{name}" for name in tfcnn.__all__} <= anchors


def test_every_flag_of_every_command_is_in_the_reference(site, pages):
    page = pages[site / "reference" / "command-line" / "index.html"]
    choices = next(action.choices for action in make_parser(COMMANDS)._actions if isinstance(action.choices, dict))
    flags = {flag for command in choices.values() for action in command._actions for flag in action.option_strings if flag not in ("-h", "--help")}
    assert {f"tfcnn-{name}" for name in COMMANDS} <= page.anchors
    assert flags <= set(re.findall(r"--[\w-]+", " ".join(page.code)))


def test_every_notebook_and_page_of_the_root_is_in_the_site(site):
    names = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert names and all((site / "notebooks" / name / "index.html").is_file() for name in names)
    assert all((site / name / "index.html").is_file() for name in ("changelog", "contributing", "architecture"))


def test_pages_fit_into_a_phone_and_a_desktop_and_ask_no_other_server(site, page):
    """The fixture fails the test for a request to another computer."""
    handler = partial(_Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for width in (390, 1280):
            page.set_viewport_size({"width": width, "height": 900})
            for path in ("", "quick-start/", "export/", "trust/", "reference/data/", "reference/command-line/", "troubleshooting/", "coming-from/torchvision/"):
                page.goto(f"http://127.0.0.1:{server.server_port}/{path}")
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format, *values):
        pass


def test_messages_that_are_explained_stand_in_the_code():
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    messages, patterns = re.findall(r"^tfcnn: (.+)$", page, re.MULTILINE), message_patterns()
    unknown = [message for message in messages if not any(re.fullmatch(pattern, message) for pattern in patterns)]
    assert len(messages) >= 30 and not unknown


def message_patterns() -> list[str]:
    """Regular expressions of all texts in the code that begin with "expected" and say enough to be told apart."""
    patterns = []
    for path in (ROOT / "tfcnn").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []
            texts = [part.value if isinstance(part, ast.Constant) else None for part in parts]
            if texts and str(texts[0]).startswith("expected") and sum(len(text) for text in texts if text) >= 25:
                patterns.append("".join(".*" if text is None else printed(text) for text in texts))
    return patterns


def printed(text: str) -> str:
    """A part of a message as the command line may print it: name=value is --name value there."""
    return re.sub(r"(\w+)=", lambda found: f"(?:{found[1]}=|--{found[1].replace('_', '-')} )", re.escape(text).replace("\\=", "="))


def test_a_quoted_message_that_no_code_raises_is_found():
    assert not any(re.fullmatch(pattern, "expected a folder of classes, but there is none; make one") for pattern in message_patterns())


def test_a_model_with_code_in_it_is_refused_and_the_code_does_not_run(trained, tmp_path):
    import shutil

    marker = tmp_path / "ran"
    folder = shutil.copytree(trained[0].path, tmp_path / "run")
    image = keras.Input((32, 32, 3))
    scores = keras.layers.Dense(3, activation="softmax")(keras.layers.GlobalAveragePooling2D()(image))
    harm = keras.layers.Lambda(lambda x, name=str(marker): (open(name, "w").close(), x)[1], output_shape=(3,))
    keras.Model(image, harm(scores)).save(folder / "model.keras")
    marker.unlink(missing_ok=True)
    with pytest.raises(tfcnn.InputError, match="expected a Keras model in"):
        tfcnn.predict(folder, np.zeros((1, 32, 32, 3)))
    assert not marker.exists()


def test_no_code_switches_the_guards_of_keras_and_numpy_off():
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tfcnn").rglob("*.py"))
    assert not re.search(r"safe_mode|enable_unsafe|allow_pickle=True|import pickle|pickle\.loads?|\beval\(|\bexec\(", code)


@pytest.mark.slow
def test_the_numbers_of_batchnorm_beside_torch_are_those_of_keras():
    page = (ROOT / "docs" / "coming-from" / "torchvision.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w, ]+) \| (0\.\d+) \| ([\de.-]+) \|", page, re.MULTILINE)
    names = {"ResNet": "ResNet50", "ResNetV2": "ResNet50V2", "DenseNet": "DenseNet121", "MobileNetV3": "MobileNetV3Small", "EfficientNet": "EfficientNetB0",
             "EfficientNetV2": "EfficientNetV2B0", "NASNet": "NASNetMobile"}
    found = {}
    for families, momentum, epsilon in rows:
        for family in families.split(", "):
            network = getattr(keras.applications, names.get(family, family))(weights=None, include_top=False, input_shape=(64, 64, 3))
            norms = {(layer.momentum, layer.epsilon) for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)}
            found[family] = norms == {(float(momentum), float(epsilon))}
    assert len(found) == 9 and all(found.values()), found
