"""The page of the bundle in a headless Chromium: golden answers, photos as pixels, and what it says when something is wrong."""

import base64
import functools
import io
import json
import shutil
import threading
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from conftest import expected_of, unzip
from PIL import Image
from test_bundle import check_in_mediapipe
from test_mediapipe import vision  # noqa: F401 (a fixture)

import tfcnn
from tfcnn.data.photo import GEOMETRIES, decode_photo
from tfcnn.export.bundle import write_bundle


@pytest.fixture(scope="module")
def site(bundle):
    """The address of the unzipped bundle on a plain static server."""
    with serving(bundle) as address:
        yield address


@contextmanager
def serving(folder):
    handler = functools.partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    """The server of 'python3 -m http.server', without its log."""

    def log_message(self, format, *values):
        pass


def open_page(page, site, query=""):
    page.goto(f"{site}/web/{query}")
    page.locator("#status", has_text="Ready").wait_for()


@pytest.mark.parametrize("file", ["float32.tflite", "float16.tflite", "int8.tflite"])
def test_the_browser_gives_the_golden_answers(litertjs, site, page, bundle, file):
    open_page(page, site)
    page.get_by_label(file).check()
    golden, results = expected_of(bundle), page.evaluate("window.checkGolden()")
    assert [result["photo"] for result in results] == [row["photo"] for row in golden["photos"]]
    for result, row in zip(results, golden["photos"], strict=True):
        assert result["got"]["label"] == row["keras"][0]["label"] and result["ok"]
        assert result["difference"] <= (1e-5 if file == "float32.tflite" else golden["files"][file]["tolerance"])
    assert page.locator("#rows tr").count() == 20 and page.locator("#rows .bad").count() == 0
    assert page.inner_text("#summary").startswith(f"{file}: 20 of 20 as expected")
    page.wait_for_load_state("networkidle")  # so that whatever it would ask for later is seen


@pytest.mark.slow
def test_the_other_formats_give_the_golden_answers_in_browser_and_mediapipe(litertjs, vision, page, trained, tmp_path):  # noqa: F811
    run, data, _ = trained
    shutil.copytree(run.path, tmp_path / "run")
    formats = ["tflite_dynamic", "tflite_weight_int8", "tflite_int8_mixed"]
    exports = tfcnn.export(tmp_path / "run", data, formats=formats, max_accuracy_drop=1.0)
    folder = unzip(write_bundle(tfcnn.load_run(tmp_path / "run"), tmp_path / "app.zip", exports=exports, data=data)) / "run"
    with serving(folder) as address:
        open_page(page, address)
        for name in formats:
            file = f"{name.removeprefix('tflite_')}.tflite"
            check_in_mediapipe(vision, folder, file)
            page.get_by_label(file).check()
            results = page.evaluate("window.checkGolden()")
            assert len(results) == len(expected_of(folder)["photos"]) > 0 and all(result["ok"] for result in results)


def test_no_golden_photo_is_no_success(litertjs, site, page, bundle):
    page.route("**/expected.json", lambda route: route.fulfill(json={**expected_of(bundle), "photos": []}))
    open_page(page, site, "?check")
    page.locator("#summary.bad", has_text="nothing was checked").wait_for()


def test_a_wrong_answer_is_shown_as_one(litertjs, site, page, bundle):
    golden = expected_of(bundle)
    golden["photos"][4]["expected"]["float32.tflite"][0]["score"] -= 0.01  # the label is right, the score is not
    page.route("**/expected.json", lambda route: route.fulfill(json=golden))
    open_page(page, site, "?check")
    page.locator("#summary", has_text="19 of 20 as expected").wait_for()
    assert page.locator("#rows tr").nth(4).locator("td.bad").count() == 1 and page.locator("#rows td.bad").count() == 1


def test_a_photo_from_a_file_is_answered_as_keras_does(litertjs, site, page, shipped, tmp_path):
    run, _, _ = shipped
    pixels = np.random.default_rng(1).integers(0, 120, (90, 70, 3)).astype(np.uint8)
    pixels[..., 0] += 110
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    (expected,) = tfcnn.predict(run, [tmp_path / "photo.png"])
    open_page(page, site)
    page.set_input_files("#file", tmp_path / "photo.png")
    page.locator("#status", has_text="ms on this device").wait_for()
    rows = [row.split("\n") for row in page.locator("#answers li").all_inner_texts()]
    assert [row[0] for row in rows] == sorted(run.labels, key=expected.scores.get, reverse=True)[:3]
    assert float(rows[0][1].removesuffix(" %")) / 100 == pytest.approx(expected.score, abs=0.002)
    assert page.is_visible("#photo")


def test_a_file_that_is_no_photo_is_an_error_that_goes_away(litertjs, site, page, tmp_path):
    open_page(page, site)
    page.set_input_files("#file", {"name": "broken.jpg", "mimeType": "image/jpeg", "buffer": b"not a photo"})
    page.locator("#error", has_text="This file is not a photo that the browser can read").wait_for()
    page.set_input_files("#file", {"name": "good.png", "mimeType": "image/png", "buffer": png(np.full((40, 40, 3), 200))})
    page.locator("#status", has_text="ms on this device").wait_for()
    assert page.is_hidden("#error")


def test_a_photo_of_the_camera_is_answered(litertjs, site, page):
    open_page(page, site)
    page.click("#camera")
    page.click("#shoot")
    page.locator("#status", has_text="ms on this device").wait_for()
    assert page.locator("#answers li").count() == 3 and page.is_hidden("#video") and page.is_visible("#photo")


def test_a_model_file_that_is_broken_is_named(litertjs, site, page):
    page.route("**/int8.tflite", lambda route: route.fulfill(body=b"not a model"))
    open_page(page, site)
    page.get_by_label("int8.tflite").check()
    page.locator("#error", has_text="models/int8.tflite cannot be run in this browser").wait_for()
    page.get_by_label("float16.tflite").check()
    page.locator("#status", has_text="Ready").wait_for()
    assert page.is_hidden("#error")


def test_a_page_whose_golden_photos_were_taken_out_still_works(litertjs, site, page):
    page.route("**/golden/*", lambda route: route.fulfill(status=404))
    open_page(page, site, "?check")
    assert page.is_hidden("#golden") and page.is_hidden("#error")


def test_a_page_without_litertjs_says_what_to_run(site, page):
    page.route("**/litert/**", lambda route: route.fulfill(status=404))
    page.goto(f"{site}/web/")
    page.locator("#error", has_text='Run "npm install" in the folder of this page').wait_for()


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_page_makes_the_pixels_of_the_training(site, page, bundle, geometry):
    """Of photos that are larger and smaller than the model, in every geometry, within one level of 255."""
    pixels = page_pixels(page, site, bundle, geometry)
    for width, height in [(200, 130), (37, 90), (20, 24)]:
        photo = png(np.random.default_rng(0).integers(0, 256, (height, width, 3)))
        differences = np.abs(pixels(photo).astype(int) - decode_photo(photo, 32, geometry).pixels)
        assert differences.max() <= 1 and (differences > 0).mean() < 0.3


def test_the_page_turns_photos_upright(site, page, bundle):
    photo, pixels = np.zeros((48, 80, 3), np.uint8), page_pixels(page, site, bundle, "stretch")
    photo[:24, :40], photo[24:, :40], photo[24:, 40:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    seen = set()
    for orientation in range(1, 9):
        exif, buffer = Image.Exif(), io.BytesIO()
        exif[0x0112] = orientation
        Image.fromarray(photo).save(buffer, "JPEG", exif=exif, quality=95, subsampling=0)
        got = pixels(buffer.getvalue())
        assert np.abs(got.astype(int) - decode_photo(buffer.getvalue(), 32).pixels).max() <= 4  # decoders of JPEG differ a little
        seen.add(got.tobytes())
    assert len(seen) == 8


def test_transparent_photos_are_put_on_white_and_grey_is_made_as_in_training(site, page, bundle):
    from tfcnn.data.channels import to_grey

    photo = np.random.default_rng(0).integers(0, 256, (32, 32, 4))
    photo[..., 3] = np.where(photo[..., 3] > 127, 255, 0)  # a canvas keeps half transparent colours only roughly
    got = page_pixels(page, site, bundle, "stretch", channels=1)(png(photo))
    assert np.abs(got.astype(int) - to_grey(decode_photo(png(photo), 32).pixels)).max() <= 1


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def page_pixels(page, site, bundle, geometry: str, channels: int = 3):
    """A function of the bytes of a photo that gives the pixels which the page would classify, as if the model had another geometry."""
    description = {**json.loads((bundle / "model.json").read_text()), "geometry": geometry, "channels": channels}
    page.route("**/model.json", lambda route: route.fulfill(json=description))
    page.route("**/litert/**", lambda route: route.fulfill(status=404))  # nothing is classified here
    page.goto(f"{site}/web/")
    page.locator("#error").wait_for()
    code = "(text) => window.photoPixels(new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]))"
    return lambda content: np.array(page.evaluate(code, base64.b64encode(content).decode()), np.uint8).reshape(32, 32, channels)
