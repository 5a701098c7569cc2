"""Data for the tests: the shared photos where they are present, photos made here elsewhere."""

import datetime
import json
import os
import shutil
import site
import subprocess
import sys
import time
import zipfile
from html.parser import HTMLParser
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import pytest

IN_CI = os.environ.get("CI") == "true"
SHARED = Path(os.environ.get("TFCNN_DATA") or Path(__file__).parents[2] / "shared" / "data")
ROOT = Path(__file__).parents[1]
AT_THE_TOP = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")  # what a package is built of, beside its code
MADE_CLASSES = ("blue", "green", "red")


# Slow files that come first where tests that begin late are skipped: what a newcomer tries. The others begin with another one each day.
FIRST = ("test_notebooks.py", "test_docs_commands.py", "test_package.py")


def pytest_collection_modifyitems(items):
    if "TFCNN_TEST_UNTIL" in os.environ:
        names = sorted({item.path.name for item in items} - set(FIRST))
        start = datetime.date.today().toordinal() * 7 % max(1, len(names))
        order = {name: place for place, name in enumerate([*FIRST, *names[start:], *names[:start]])}
        items.sort(key=lambda item: order[item.path.name])


def pytest_runtest_setup(item):
    """Skips a test that would begin later than the second since 1970 in TFCNN_TEST_UNTIL."""
    if time.time() > float(os.environ.get("TFCNN_TEST_UNTIL", "inf")):
        pytest.skip("no time is left")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Every test session has a cache of its own, so that nothing is found that it did not make."""
    os.environ["TFCNN_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def shared():
    """The folder with the shared data; tests that need it are skipped where it is missing, and fail in CI."""
    if not (SHARED / "trashnet600").is_dir():
        reason = f"no shared data in '{SHARED}'; set TFCNN_DATA to the folder that holds trashnet600"
        pytest.fail(reason) if IN_CI else pytest.skip(reason)
    return SHARED


@pytest.fixture(scope="session")
def v3_small_weights(shared):
    """ImageNet weights of MobileNetV3-Small, recovered from an 8-bit file."""
    return shared / "weights" / "mobilenet_v3_small_224_1.0_from_uint8_no_top.h5"


def make_photos(folder: Path, classes=MADE_CLASSES, count: int = 20, side: int = 48, seed: int = 0) -> Path:
    """A folder of class folders with noisy JPEGs whose colour tells the class."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    for channel, name in enumerate(reversed(classes)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 120, (side, side + 8, 3))
            pixels[..., channel % 3] += 100 + channel // 3 * 20
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:02d}.jpg", quality=90)
    return folder


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def moved_by_a_step(model, pixels) -> set[str]:
    """Paths of the weights that one training step changes, without the states of random generators; compiles what is not yet compiled."""
    import keras

    weights = [weight for weight in model.weights if "seed_generator" not in weight.path]
    before = [weight.numpy() for weight in weights]
    if not model.compiled:
        model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", run_eagerly=True)  # no graph to trace for one step
    model.fit(pixels, np.arange(len(pixels)) % 3, batch_size=len(pixels), verbose=0)
    return {weight.path for weight, old in zip(weights, before, strict=True) if not np.array_equal(weight.numpy(), old)}


def material_of(model, labels, folder: Path, photos=None, held_out=None, **contract):
    """What the writers of files take, for a model without a run; photos uint8 for 8-bit files."""
    from tfcnn.export.contract import Contract
    from tfcnn.export.tflite import Material

    folder.mkdir(parents=True, exist_ok=True)
    told = Contract("test", tuple(labels), tuple(model.input_shape[1:]), "stretch", **contract)
    return Material(model, told, photos, held_out, folder)


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """60 made photos in three classes; not to be changed by a test."""
    return make_photos(tmp_path_factory.mktemp("made") / "photos")


@pytest.fixture
def tiny_vit(monkeypatch):
    """The name of a row that stands in the table for one test: a ViT of two blocks, built in no time."""
    from tfcnn.models.backbones import BACKBONES, VIT, Backbone

    stages = (("embedding", "patch_embedding"), ("block1", "block1_norm1"), ("block2", "block2_norm1"))
    options = {"patch_size": 16, "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 12}
    monkeypatch.setitem(BACKBONES, "tiny_vit", Backbone(VIT, 32, stages, 7_136, "none", "none", "tf", minimum_size=16, options=options))
    return "tiny_vit"


@pytest.fixture
def thin_mobilenet(monkeypatch):
    """The name of a row that stands in the table for one test: a quarter of MobileNet's channels."""
    from tfcnn.models.backbones import BACKBONES

    row = BACKBONES["mobilenet"]
    monkeypatch.setitem(BACKBONES, "thin_mobilenet", row._replace(image_size=32, options={"alpha": 0.25}))
    return "thin_mobilenet"


@pytest.fixture(scope="session")
def data():
    """36 random photos of 8x8 pixels in three classes, one of the channels brighter in each: 24 are for training, 6 for validation."""
    import tfcnn

    rng = np.random.default_rng(0)
    images, targets = rng.integers(0, 156, (36, 8, 8, 3)), np.arange(36) % 3
    images[np.arange(36), :, :, targets] += 60
    return tfcnn.load_images((images.astype(np.uint8), targets), image_size=8, split=(2 / 3, 1 / 6, 1 / 6))


@pytest.fixture(scope="session")
def trained(tmp_path_factory, photos):
    """(run, data, model): a small CNN trained on the made photos for two epochs; not to be changed by a test."""
    import keras

    import tfcnn
    from tfcnn.models.cnn import build_features

    keras.utils.set_random_seed(0)
    data = tfcnn.load_images(photos, image_size=32, split=(0.4, 0.2, 0.4))
    model = tfcnn.build_classifier(build_features((32, 32, 3)), labels=data.labels, weights=None)
    run = tfcnn.train(model, data, tfcnn.TrainingConfig(epochs=2, batch_size=8), output=tmp_path_factory.mktemp("runs") / "trained")
    return run, data, model


@pytest.fixture(scope="session")
def shipped(trained, tmp_path_factory):
    """(run, data, exports): a copy of the trained run with float32, float16 and int8 files; not to be changed by a test."""
    import tfcnn
    from tfcnn.record import write_record

    run, data, _ = trained
    folder = tmp_path_factory.mktemp("runs") / "colours"
    shutil.copytree(run.path, folder)
    write_record(folder, {**run.record, "test": tfcnn.evaluate(run, data).to_dict()})
    formats = ["tflite_float32", "tflite_float16", "tflite_int8"]
    exports = tfcnn.export(folder, data, formats=formats, max_accuracy_drop=1.0)  # the gate is tested elsewhere
    return tfcnn.load_run(folder), data, exports


@pytest.fixture(scope="session")
def bundle(shipped, tmp_path_factory):
    """The unzipped bundle of the shipped run, with LiteRT.js where npm is there."""
    from tfcnn.export.bundle import write_bundle

    run, data, exports = shipped
    return unzip(write_bundle(run, tmp_path_factory.mktemp("bundle") / "colours.zip", exports=exports, data=data)) / "colours"


def unzip(path: Path) -> Path:
    """Unpacks a zip beside it; gives the folder both are in."""
    with zipfile.ZipFile(path) as archive:
        archive.extractall(path.parent)
    return path.parent


def expected_of(bundle: Path) -> dict:
    """The golden answers of an unzipped bundle."""
    return json.loads((bundle / "golden" / "expected.json").read_text())


def missing(reason: str) -> None:
    """Ends a test for which something is not installed: skipped here, a failure in CI."""
    pytest.fail(reason) if IN_CI else pytest.skip(reason)


@pytest.fixture(scope="session")
def litertjs(own_cache):
    """The files of LiteRT.js, fetched once with npm."""
    import tfcnn
    from tfcnn.export.litertjs import fetch_litertjs

    try:
        return fetch_litertjs()
    except (tfcnn.InputError, tfcnn.WorkError) as error:
        missing(str(error))


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium that reaches this computer alone."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        missing("the page is not tested: install playwright, which is in the extra 'dev'")
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
                 "--no-first-run", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",  # a camera that shows a moving picture
                 "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"]
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
        except Error as error:
            missing(f"the page is not tested: install the Debian package chromium ({str(error).splitlines()[0]})")
        yield browser.new_context(permissions=["camera"])
        browser.close()


@pytest.fixture
def page(chromium):
    """A page that fails its test if it asked any other computer for anything, or if its code ended in an error."""
    asked, errors = [], []
    page = chromium.new_page()
    page.set_default_timeout(60_000)
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert asked and not errors, errors
    assert not [url for url in asked if not url.removeprefix("blob:").startswith(("http://127.0.0.1:", "http://localhost:", "data:"))]


def names_in(folder):
    """Everything below a folder, hidden files too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def build(folder: Path, output: Path, *what: str) -> None:
    """Builds with the setuptools that is installed, so that nothing is downloaded."""
    done = subprocess.run([sys.executable, "-m", "build", "--no-isolation", *what, "--outdir", str(output), str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """A copy of what a clone holds, so that a build leaves nothing behind."""
    folder = tmp_path_factory.mktemp("build") / "tree"
    shutil.copytree(ROOT / "tfcnn", folder / "tfcnn", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    for name in AT_THE_TOP:
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="session")
def built(tree):
    """The folder with the sdist and the wheel that was made of it."""
    build(tree, tree.parent / "dist")
    return tree.parent / "dist"


@pytest.fixture(scope="session")
def installed(built):
    """(python, folder) of an environment that has tfcnn from the wheel alone, and what it needs from the environment of the tests."""
    folder = built.parent / "alone"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    packages, = (folder / "venv").glob("lib/python*/site-packages")
    # A folder that a .pth names comes behind those of the environment, and its own .pth files, such as that of an editable tfcnn, are not read.
    (packages / "needed.pth").write_text("".join(f"{path}\n" for path in site.getsitepackages()))
    wheel, = built.glob("*.whl")
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", "--force-reinstall", str(wheel)],
                   check=True)
    return python, folder
