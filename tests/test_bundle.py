"""The bundle for app developers: what is in it, and that its models give its golden answers in LiteRT and MediaPipe."""

import io
import json
import os
import re
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from conftest import expected_of, missing, unzip
from PIL import Image
from test_mediapipe import classify, vision  # noqa: F401 (a fixture)

import tfcnn
from tfcnn.export import bundle as bundle_module
from tfcnn.export.bundle import check_bundle, write_bundle
from tfcnn.export.golden import choose_photos, to_png
from tfcnn.export.litertjs import WEB, fetch_litertjs
from tfcnn.models.forward import forward

FILES = ["float32.tflite", "float16.tflite", "int8.tflite"]


def pixels_of(bundle: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(bundle / "golden" / row["photo"])) for row in expected_of(bundle)["photos"]]


def run_model(path: Path, photo: np.ndarray) -> np.ndarray:
    """The scores of a file, read without anything of tfcnn."""
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    entry, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.set_tensor(entry["index"], photo.reshape(entry["shape"]).astype(entry["dtype"]))
    interpreter.invoke()
    scores = interpreter.get_tensor(out["index"])[0].astype(np.float32)
    scale, zero = out["quantization"]
    return (scores - zero) * scale if out["dtype"] == np.uint8 else scores


def test_the_bundle_holds_what_its_readme_lists(bundle, shipped):
    run, _, exports = shipped
    assert sorted(path.name for path in bundle.iterdir()) == [
        "LICENSE", "README.md", "android", "card.md", "contract.json", "golden", "ios", "labels.txt", "model.json", "models", "web"]
    assert (bundle / "LICENSE").read_text() == (Path(__file__).parents[1] / "LICENSE").read_text()
    assert json.loads((bundle / "contract.json").read_text())["output"]["labels"] == run.labels
    card = (bundle / "card.md").read_text()
    assert f"on {run.record['test']['n']} test photos" in card and all(f"| models/{Path(e.path).name} |" in card for e in exports) and "int8_mixed" not in card
    assert (bundle / "android" / "README.md").read_text().count("float32.tflite") == (bundle / "ios" / "README.md").read_text().count("float32.tflite") == 1
    assert (bundle / "labels.txt").read_text().split() == run.labels
    for e in exports:
        assert (bundle / "models" / Path(e.path).name).read_bytes() == (run.path / e.path).read_bytes()
    readme = (bundle / "README.md").read_text()
    for name in re.findall(r"^\| `([^`]+)`", readme, re.M):
        assert (bundle / name).exists() or (bundle / "models" / name).exists(), name
    assert "copies of your own photos" in readme and "not on a device" in readme


def test_model_json_says_what_every_file_takes_and_gives(bundle, shipped):
    run, _, exports = shipped
    description = json.loads((bundle / "model.json").read_text())
    assert (description["name"], description["image_size"], description["channels"], description["geometry"]) == ("colours", 32, 3, "stretch")
    assert description["labels"] == run.labels and description["expected"] == "golden/expected.json"
    assert [row["file"] for row in description["models"]] == [f"models/{name}" for name in FILES]
    by_name = {Path(row["file"]).name: row for row in description["models"]}
    assert by_name["float32.tflite"]["input"] == {"dtype": "float32", "scale": 1.0, "zero_point": 0}
    assert by_name["int8.tflite"]["input"]["dtype"] == "uint8"
    assert by_name["int8.tflite"]["output"] == {"dtype": "uint8", "scale": 1 / 256, "zero_point": 0}
    for e in exports:
        assert by_name[Path(e.path).name]["bytes"] == e.bytes
        assert re.fullmatch(r"\d+\.\d+\.\d+", by_name[Path(e.path).name]["minimum_runtime"])


def test_the_files_of_the_bundle_give_the_golden_answers(bundle, shipped):
    run, _, _ = shipped
    golden = expected_of(bundle)
    assert sorted(golden["files"]) == sorted(FILES) and len(golden["photos"]) == 20
    for row, photo in zip(golden["photos"], pixels_of(bundle), strict=True):
        assert photo.shape == (32, 32, 3) and photo.dtype == np.uint8
        for name in FILES:
            scores = run_model(bundle / "models" / name, photo)
            order = np.argsort(-scores, kind="stable")
            assert [answer["label"] for answer in row["expected"][name]] == [run.labels[index] for index in order[:3]]
            np.testing.assert_allclose([answer["score"] for answer in row["expected"][name]], scores[order[:3]], atol=2e-6)
            assert scores[order[0]] - scores[order[1]] > 2 * golden["files"][name]["tolerance"]


def test_golden_photos_are_test_photos_with_the_answers_of_keras(bundle, shipped):
    run, data, _ = shipped
    known = {data.inputs[row].tobytes(): data.items[row] for row in data.rows("test")}
    expected = forward(run.load_model(), np.stack(pixels_of(bundle)))
    for row, photo, scores in zip(expected_of(bundle)["photos"], pixels_of(bundle), expected, strict=True):
        assert known[photo.tobytes()].label == row["label"]  # of the test split, pixel for pixel
        assert row["keras"][0]["label"] == run.labels[scores.argmax()] == row["expected"]["float32.tflite"][0]["label"]
        assert row["keras"][0]["score"] == pytest.approx(float(scores.max()), abs=1e-5)


def test_the_same_run_gives_the_same_bundle(bundle, shipped, tmp_path):
    run, data, exports = shipped
    again = write_bundle(run, tmp_path / "other name.zip", exports=exports, data=data)
    with zipfile.ZipFile(again) as archive:
        assert all(archive.read(name) == (bundle.parent / name).read_bytes() for name in archive.namelist())
        assert {name.split("/")[0] for name in archive.namelist()} == {"colours"}


def test_photos_are_golden_if_every_file_and_keras_agree_by_twice_the_tolerance():
    keras = np.array([[.9, .1], [.9, .1], [.2, .8], [.2, .8], [.9, .1], [.6, .4]])
    file = np.array([[.9, .1], [.59, .41], [.2, .8], [.8, .2], [.9, .1], [.61, .39]])
    assert choose_photos({"keras": keras, "a": file}, {"a": 0.1}) == [0, 2, 4, 5]  # 1 is close in the file, 3 is answered otherwise
    assert choose_photos({"keras": keras, "a": keras}, {"a": 0.11}) == [0, 1, 2, 3, 4]
    assert choose_photos({"keras": keras, "a": keras, "b": file}, {"a": 0.01, "b": 0.2}) == [0, 2, 4]


def test_golden_photos_are_spread_over_the_labels_that_are_answered():
    scores = np.eye(3)[[0] * 30 + [1] * 3 + [2] * 30]
    chosen = choose_photos({"keras": scores, "a": scores}, {"a": 0.1})
    answers = scores[chosen].argmax(axis=1).tolist()
    assert [answers.count(label) for label in range(3)] == [9, 3, 8] and chosen == sorted(chosen)


def test_a_bundle_without_a_certain_photo_is_written_and_says_so(shipped, tmp_path, monkeypatch, caplog):
    run, data, exports = shipped
    monkeypatch.setattr("tfcnn.export.golden.choose_photos", lambda scores, tolerances: [3])
    folder = unzip(write_bundle(run, tmp_path / "few.zip", exports=exports[:1], data=data)) / "colours"
    assert len(expected_of(folder)["photos"]) == 1 and "There are 1 and not 20" in (folder / "README.md").read_text()
    assert "1 golden photos, not 20" in caplog.text


@pytest.mark.parametrize("channels", [1, 3])
def test_png_keeps_every_pixel(channels):
    photo = np.random.default_rng(0).integers(0, 256, (16, 16, channels)).astype(np.uint8)
    image = Image.open(io.BytesIO(to_png(photo)))
    assert image.mode == ("L" if channels == 1 else "RGB") and (np.asarray(image).reshape(photo.shape) == photo).all()


@pytest.mark.parametrize("name", ["bundle", "bundle.tar", ""])
def test_a_bundle_is_a_zip(shipped, name):
    with pytest.raises(tfcnn.InputError, match=r"named \*\.zip"):
        check_bundle(name, shipped[0], ["tflite_int8"])


def test_a_bundle_wants_a_tflite_file(shipped, tmp_path):
    with pytest.raises(tfcnn.InputError, match="a format of TFLite for the bundle, got saved_model, onnx; add for example tflite_float16"):
        check_bundle(tmp_path / "a.zip", shipped[0], ["saved_model", "onnx"])


def test_a_bundle_cannot_replace_a_folder(shipped, tmp_path):
    (tmp_path / "a.zip").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(tfcnn.InputError, match="is a folder"):
        check_bundle(tmp_path / "a.zip", shipped[0], ["auto"])
    with pytest.raises(tfcnn.InputError, match="a folder that can be written"):
        check_bundle(tmp_path / "file" / "a.zip", shipped[0], ["auto"])


def test_only_accepted_tflite_files_are_shipped(shipped, tmp_path):
    run, data, exports = shipped
    rejected = [replace(e, accepted=False) for e in exports]
    with pytest.raises(tfcnn.InputError, match=r"found none; write one with 'tfcnn export .* --format tflite_float32'"):
        write_bundle(run, tmp_path / "b.zip", exports=rejected, data=data)
    with pytest.raises(tfcnn.InputError, match="but it is gone"):
        write_bundle(run, tmp_path / "b.zip", exports=[replace(exports[0], path="exports/gone.tflite")], data=data)
    with pytest.raises(tfcnn.InputError, match="as it was when it was checked, but it was changed"):
        write_bundle(run, tmp_path / "b.zip", exports=[replace(exports[0], sha256="0" * 64)], data=data)
    with pytest.raises(tfcnn.InputError, match=r"run\.json lists '\.\./other\.tflite'; it was changed by hand"):
        write_bundle(run, tmp_path / "b.zip", exports=[replace(exports[0], path="../other.tflite")], data=data)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [[8, 8, 4], [8, 9, 3]])
def test_photos_that_a_browser_cannot_show_exactly_are_refused(shipped, tmp_path, shape):
    run, data, exports = shipped
    odd = tfcnn.record.Run(run.path, {**run.record, "input_shape": shape})
    with pytest.raises(tfcnn.InputError, match="square photos with 1 or 3 channels"):
        write_bundle(odd, tmp_path / "b.zip", exports=exports, data=data)


def test_without_npm_the_bundle_says_what_to_run(shipped, tmp_path, monkeypatch, caplog):
    run, data, exports = shipped
    monkeypatch.setenv("TFCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    folder = unzip(write_bundle(run, tmp_path / "b.zip", exports=exports[:1], data=data)) / "colours"
    assert not (folder / "web" / "litert").exists() and "run 'npm install'" in caplog.text and "install Node.js" in caplog.text
    assert "run `npm install` in `web/` first" in (folder / "README.md").read_text()
    assert json.loads((folder / "web" / "package.json").read_text())["dependencies"]["@litertjs/core"] == "2.5.3"
    paths = json.loads(re.search(r'importmap">(.*?)</script>', (folder / "web" / "index.html").read_text())[1])["imports"]
    assert all(path.startswith("./node_modules/@litertjs/") for path in paths.values())


def test_packages_that_are_not_those_of_the_lock_file_are_refused(tmp_path, monkeypatch):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error code EINTEGRITY' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("TFCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(tfcnn.WorkError, match=r"it failed \(EINTEGRITY\)"):
        fetch_litertjs()
    assert not list((tmp_path / "cache").rglob("package.json"))


def test_the_lock_file_pins_versions_and_hashes_but_no_host():
    lock = json.loads((WEB / "package-lock.json").read_text())["packages"]
    wanted = json.loads((WEB / "package.json").read_text())["dependencies"]
    assert {name.removeprefix("node_modules/"): row["version"] for name, row in lock.items() if name} == wanted
    assert all(row["integrity"].startswith("sha512-") and "resolved" not in row for name, row in lock.items() if name)


def test_litertjs_is_shipped_with_its_licence(bundle, litertjs):
    folder = bundle / "web" / "litert"
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == sorted(litertjs)
    assert "Apache License" in (folder / "LICENSE").read_text()
    assert json.loads((folder / "core" / "package.json").read_text())["license"] == "Apache-2.0"


@pytest.mark.parametrize("file", FILES)
def test_mediapipe_gives_the_golden_answers(vision, bundle, file):  # noqa: F811
    check_in_mediapipe(vision, bundle, file)


def check_in_mediapipe(vision, bundle, file):  # noqa: F811
    golden = expected_of(bundle)
    answers = list(classify(vision, bundle / "models" / file, pixels_of(bundle)))
    assert len(answers) == len(golden["photos"]) > 0
    for (names, scores), row in zip(answers, golden["photos"], strict=True):
        assert names[0] == row["expected"][file][0]["label"] == row["keras"][0]["label"]
        found = dict(zip(names, scores, strict=True))
        for answer in row["expected"][file]:
            assert found[answer["label"]] == pytest.approx(answer["score"], abs=golden["files"][file]["tolerance"])


def test_mediapipe_leaves_out_labels_below_the_threshold(vision, trained, bundle, tmp_path):  # noqa: F811
    run, data, _ = trained
    shutil.copytree(run.path, tmp_path / "run")
    (export,) = tfcnn.export(tmp_path / "run", data, formats=["tflite_float32"], score_threshold=0.4)
    everything = list(classify(vision, bundle / "models" / "float32.tflite", pixels_of(bundle)))
    answers = list(classify(vision, tmp_path / "run" / export.path, pixels_of(bundle)))
    for (names, scores), (all_names, all_scores) in zip(answers, everything, strict=True):
        kept = sum(score >= 0.4 for score in all_scores)
        assert len(all_names) == 3 and names == all_names[:kept] and scores == pytest.approx(all_scores[:kept])
    assert any(len(names) < 3 for names, _ in answers)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "vgg16"])
def test_mediapipe_gives_the_golden_answers_of_networks_that_want_other_colours(vision, photos, tmp_path, name):  # noqa: F811
    """"caffe" networks: blue before red, means subtracted, inside the file."""
    import keras

    keras.utils.set_random_seed(0)
    data = tfcnn.load_images(photos, image_size=64)
    model = tfcnn.build_classifier(name, labels=data.labels, weights=None, image_size=64)
    run = tfcnn.train(model, data, tfcnn.TrainingConfig(trainable=False), output=tmp_path / "run")
    exports = tfcnn.export(run, data, formats=["tflite_float32", "tflite_dynamic", "tflite_int8"], max_accuracy_drop=1.0)
    folder = unzip(write_bundle(run, tmp_path / "b.zip", exports=exports, data=data)) / "run"
    for file in ("float32.tflite", "dynamic.tflite", "int8.tflite"):
        check_in_mediapipe(vision, folder, file)


SOURCES = Path(bundle_module.__file__).parent


@pytest.mark.parametrize(("language", "pattern"), [("kotlin", "android/*.kt*"), ("swift", "ios/*.swift")])
def test_sources_for_phones_are_parsed_without_an_error(language, pattern):
    try:
        import tree_sitter

        grammar = __import__(f"tree_sitter_{language}")
    except ImportError:
        missing(f"{language} is not parsed: install tree-sitter and tree-sitter-{language}, which are in the extra 'dev'")
    parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))
    files = sorted(SOURCES.glob(pattern))
    assert len(files) >= 3
    for file in files:
        assert not parser.parse(file.read_bytes()).root_node.has_error, file.name
    assert parser.parse(files[0].read_bytes() + b"\n}").root_node.has_error  # it would be found


@pytest.mark.slow
def test_kotlin_sources_compile_against_the_signatures_they_use(tmp_path):
    """The signatures are written down from the documentation; the Android SDK is not needed."""
    if shutil.which("kotlinc") is None:
        missing("Kotlin is not compiled: install the Debian packages kotlin and junit4")
    parts = re.split(r"^// (\S+\.java)\n", (Path(__file__).parent / "android_stubs.txt").read_text(), flags=re.M)[1:]
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        (tmp_path / "stubs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "stubs" / name).write_text(text)
    sources = [str(file) for file in (SOURCES / "android").glob("*.kt")]
    done = subprocess.run(["kotlinc", "-d", str(tmp_path / "classes"), "-cp", "/usr/share/java/junit4.jar:/usr/share/java/hamcrest-core.jar",
                           str(tmp_path / "stubs"), *sources], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "classes" / "classifier").glob("*.class"))) > 6


def test_sources_for_phones_read_what_the_bundle_has(bundle):
    """Names of files and keys of JSON, which no compiler sees."""
    keys = set()
    for value in (json.loads((bundle / "model.json").read_text()), expected_of(bundle)):
        stack = [value]
        while stack:
            item = stack.pop()
            keys |= set(item) if isinstance(item, dict) else set()
            stack += item.values() if isinstance(item, dict) else item if isinstance(item, list) else []
    for file in [*(bundle / "android").glob("*.kt"), *(bundle / "ios").glob("*.swift")]:
        text = file.read_text()
        used = re.findall(r'(?:get|is)(?:Null|String|Int|Double|JSONObject|JSONArray)\("(\w+)"\)', text)
        for body in re.findall(r"struct \w+: Decodable \{(.*?)\n\s*\}", text, re.S):
            renamed = dict(re.findall(r'case (\w+) = "(\w+)"', body))
            used += [name for name in re.findall(r"let (\w+):", body) if name not in renamed] + list(renamed.values())
        assert set(used) <= keys, file.name
        for path in re.findall(r'"((?:models|golden)/[\w.]*|[\w]+\.(?:json|txt))', text):
            assert (bundle / path).exists(), path
    for readme in ("android", "ios"):
        for name in re.findall(r"`([A-Z]\w+\.(?:kt|swift)|Podfile|build\.gradle\.kts)`", (bundle / readme / "README.md").read_text()):
            assert (bundle / readme / name).exists(), name


@pytest.mark.slow
def test_a_bundle_for_grey_photos_has_nothing_for_mediapipe_and_grey_golden_photos(photos, tmp_path, litertjs):
    from tfcnn.models.cnn import build_features

    data = tfcnn.load_images(photos, image_size=16, channels=1)
    model = tfcnn.build_classifier(build_features((16, 16, 1)), labels=data.labels)
    run = tfcnn.train(model, data, tfcnn.TrainingConfig(epochs=1), output=tmp_path / "grey")
    exports = tfcnn.export(run, data, formats=["tflite_float32"], max_accuracy_drop=1.0)
    folder = unzip(write_bundle(run, tmp_path / "b.zip", exports=exports, data=data)) / "grey"
    assert json.loads((folder / "model.json").read_text())["channels"] == 1
    assert not list(folder.rglob("MediaPipe*")) and "MediaPipe Tasks" not in (folder / "README.md").read_text()
    for row, photo in zip(expected_of(folder)["photos"], pixels_of(folder), strict=True):
        assert photo.shape == (16, 16)
        scores = run_model(folder / "models" / "float32.tflite", photo)
        assert row["expected"]["float32.tflite"][0]["label"] == run.labels[scores.argmax()]
