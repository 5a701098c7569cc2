"""Volumes: files in one frame whatever their axes and spacing, what is refused, and a run from files to a .tflite."""

import re

import keras
import numpy as np
import pytest

import tfcnn
from tfcnn.cli import main
from tfcnn.data.npz import rows_of_npz, shapes_of_npz
from tfcnn.data.pictures import in_order
from tfcnn.data.volume_files import fit, measure, read_volume
from tfcnn.data.volumes import load_volumes, look
from tfcnn.evaluation.draw_volume import draw_volume
from tfcnn.evaluation.stretches import telling_voxels
from tfcnn.models.vary import set_strength
from tfcnn.models.volumes import NETWORKS, VaryVolumes, build_cnn_3d, volume_input

nibabel = pytest.importorskip("nibabel")


def blobs(count=24, side=12, seed=0):
    """Volumes (n, side, side, side) with a bright cube in the lower half of the depth ("low") or in the upper one ("high"), and their labels."""
    random = np.random.default_rng(seed)
    values, labels = random.normal(100, 10, (count, side, side, side)).astype(np.float32), []
    for row in range(count):
        depth = random.integers(0, 2) + (0 if row % 2 else side // 2 + 1)
        high, wide = random.integers(0, side - 4, 2)
        values[row, depth:depth + 4, high:high + 4, wide:wide + 4] += 80
        labels.append("low" if row % 2 else "high")
    return values, labels


def smooth(shape, spacing):
    """What a smooth field has at the middles of voxels, (depth, height, width) and mm; its middle is that of the volume."""
    axes = [(np.arange(side) - (side - 1) / 2) * mm for side, mm in zip(shape, spacing, strict=True)]
    depth, height, width = np.meshgrid(*axes, indexing="ij")
    return (np.cos(depth / 11) + 0.5 * np.sin(height / 9 + 1) + 0.3 * np.cos(width / 7 + 2)).astype(np.float32)


def write_nifti(path, values, spacing, axes="RAS"):
    """A file of (depth, height, width) in the frame, whose stored axes run in other directions."""
    stored = nibabel.Nifti1Image(values.transpose(2, 1, 0), np.diag([*spacing[::-1], 1.0]))
    wanted = nibabel.orientations.axcodes2ornt(axes)
    turned = stored.as_reoriented(nibabel.orientations.ornt_transform(nibabel.orientations.io_orientation(stored.affine), wanted))
    assert "".join(nibabel.aff2axcodes(turned.affine)) == axes
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(turned, path)
    return str(path)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "PIR", "ASL", "SRP"])
def test_a_nifti_file_gives_the_same_volume_whatever_its_axes(tmp_path, axes):
    values = np.random.default_rng(0).normal(size=(5, 7, 9)).astype(np.float32)
    file = write_nifti(tmp_path / "a.nii.gz", values, (3.0, 1.0, 2.0), axes)
    assert measure([file]) == ((5, 7, 9), 1, (3.0, 1.0, 2.0))
    np.testing.assert_array_equal(read_volume([file], None)[..., 0], values)


@pytest.mark.parametrize(("spacing", "shape"), [
    ((1, 1, 1), (41, 41, 41)), ((2, 1, 1), (21, 41, 41)), ((1, 2, 0.5), (41, 21, 81)), ((0.8, 1, 1.6), (51, 41, 26))])
@pytest.mark.parametrize("axes", ["RAS", "PIL"])
def test_files_of_several_spacings_give_the_same_volume_in_the_common_frame(tmp_path, spacing, shape, axes):
    file = write_nifti(tmp_path / "a.nii", smooth(shape, spacing), spacing, axes)
    found = read_volume([file], (1.0, 1.0, 1.0))[..., 0]
    assert found.shape == (41, 41, 41)
    assert np.abs(found - smooth((41, 41, 41), (1, 1, 1))).max() < 0.015  # what linear interpolation over 2 mm leaves


def test_the_median_spacing_is_taken_and_said_and_another_one_can_be_asked_for(tmp_path, caplog):
    for label in "ab":
        for number in range(4):
            spacing = (2.0, 1.0, 1.0) if number == 0 else (1.0, 1.0, 1.0)
            shape = (11, 20, 20) if number == 0 else (21, 20, 20)
            write_nifti(tmp_path / "scans" / label / f"{number}.nii", smooth(shape, spacing) + number + 10 * (label == "b"), spacing)
    caplog.set_level("INFO")
    data = load_volumes(tmp_path / "scans")
    assert "2 of 8 are resampled to the median, 1 x 1 x 1 mm" in caplog.text
    assert data.input_shape == (21, 20, 20, 1) and data.facts["spacing"] == [1.0, 1.0, 1.0]
    assert "1 x 1 x 1 mm each; the axes run from feet to head" in data.facts["frame"]
    data = load_volumes(tmp_path / "scans", spacing=2, size=(8, 8, 12))
    assert data.input_shape == (8, 8, 12, 1) and data.facts["spacing"] == [2.0, 2.0, 2.0]
    with pytest.raises(tfcnn.InputError, match=r"expected NIfTI files for spacing=1, since other volumes do not say theirs; 24 of 24 do not"):
        load_volumes(blobs(), spacing=1)


def test_volumes_are_cut_around_their_middle_and_continued_by_their_lowest_intensity():
    values = np.arange(6 * 4 * 3, dtype=np.float32).reshape(6, 4, 3, 1) + 5
    found = fit(values, (2, 4, 6))
    assert found.shape == (2, 4, 6, 1)
    np.testing.assert_array_equal(found[:, :, 1:4], values[2:4])
    assert (found[:, :, [0, 4, 5]] == values[2:4].min()).all() or (found[:, :, [0, 4, 5]] == 5).all()


def write_slices(folder, numbers, size=(10, 12), name="slice_{}.png", dtype=np.uint8):
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.fromarray(np.full(size, number * 7 % 251, dtype)).save(folder / name.format(number))


def test_slices_are_taken_in_the_order_of_their_numbers(tmp_path):
    for label in "ab":
        for case in range(4):
            write_slices(tmp_path / "scans" / label / f"case{case}", range(8, 18) if label == "a" else range(20, 40, 2))
            (tmp_path / "scans" / label / f"case{case}" / ".hidden.png").write_text("no picture")
            from PIL import Image
            Image.fromarray(np.full((10, 12), case, np.uint8)).save(next((tmp_path / "scans" / label / f"case{case}").glob("*_2[02].png"), tmp_path / "x.png"))
    data = load_volumes(tmp_path / "scans", split=None)
    assert data.input_shape == (10, 10, 12, 1)
    first = data.inputs[np.array([row for row, item in enumerate(data.items) if item.label == "a"][:1])][0]
    assert first[:, 0, 0, 0].tolist() == [number * 7 % 251 for number in range(8, 18)]


@pytest.mark.parametrize(("names", "reason"), [
    (["s1.png"], "expected at least 2 slices, got 1"),
    (["s1.png", "s2.png", "s4.png", "s5.png"], "slices are missing between s2.png and s4.png"),
    (["s1.png", "s.png"], "expected a number in the name of every one of the slices, got s.png"),
    (["a1.png", "b1.png"], "two slices with one number: a1.png and b1.png")])
def test_slices_that_are_no_volume_say_why(names, reason):
    with pytest.raises(tfcnn.InputError, match=re.escape(reason)):
        in_order(names, "slices")


def test_what_cannot_be_used_is_left_out_with_its_reason(tmp_path):
    folder, good = tmp_path / "scans", smooth((8, 9, 10), (1, 1, 1))
    for label in "ab":
        for number in range(4):
            write_nifti(folder / label / f"{number}.nii.gz", good + number + (label == "b") * 10, (1, 1, 1))
    nan, infinite = good.copy(), good.copy()
    nan[3, 3, 3], infinite[1, 1, 1] = np.nan, np.inf
    write_nifti(folder / "a" / "nan.nii", nan, (1, 1, 1))
    write_nifti(folder / "a" / "infinite.nii", infinite, (1, 1, 1))
    (folder / "a" / "corrupt.nii.gz").write_bytes((folder / "a" / "0.nii.gz").read_bytes()[:200])
    (folder / "a" / "empty.nii").write_bytes(b"")
    (folder / "a" / "notes.txt").write_text("no volume")
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 3), np.float32), np.eye(4)), folder / "a" / "four.nii")
    flat = nibabel.Nifti1Image(good, np.eye(4))
    flat.header.set_zooms((1, 1, 1))
    flat.header["pixdim"][1:4] = 0
    flat.header["sform_code"] = flat.header["qform_code"] = 0
    flat.header["vox_offset"] = 352
    (folder / "a" / "flat.nii").write_bytes(bytes(flat.header.binaryblock) + b"\0" * 4 + good.tobytes())
    write_slices(folder / "a" / "sizes", (1, 2))
    write_slices(folder / "a" / "sizes", (3,), size=(5, 5))
    reasons = {item.path.rsplit("/", 1)[1]: item.reason for item in load_volumes(folder).quarantined}
    assert set(reasons) == {"nan.nii", "infinite.nii", "corrupt.nii.gz", "empty.nii", "notes.txt", "four.nii", "flat.nii", "sizes"}
    assert reasons["nan.nii"] == "NaN intensities" and reasons["infinite.nii"] == "infinite intensities"
    assert reasons["notes.txt"].startswith("no volume: expected .nii") and "three dimensions, got shape=(4, 4, 4, 3)" in reasons["four.nii"]
    assert "expected the spacing of the voxels in the header" in reasons["flat.nii"]
    assert reasons["sizes"] == "slices of different sizes: 12 x 10 pixels in slice_1.png, 5 x 5 in slice_3.png"
    assert reasons["corrupt.nii.gz"].startswith("cannot be read: ") and reasons["empty.nii"].startswith("cannot be read: ")


@pytest.mark.parametrize(("source", "message"), [
    ((np.zeros((4, 8, 8)), ["a", "b"] * 2), r"expected volumes as numbers of shape \(n, depth, height, width\), perhaps .* got float64 of shape=\(4, 8, 8\)"),
    ((np.zeros((4, 8, 8, 8)), ["a", "b"]), r"expected one label a volume, got 4 volumes and labels of shape=\(2,\)"),
    ({"train": (np.zeros((4, 8, 8, 8)), ["a", "b"] * 2), "later": ()}, "expected train, validation and test as keys of the data, got 'later'"),
    ({"val": (), "validation": ()}, "expected each split once in the data, got val, validation")])
def test_arrays_of_another_form_are_one_line(source, message):
    with pytest.raises(tfcnn.InputError, match=message):
        load_volumes(source)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"spacing": 0}, r"expected a spacing above 0 and up to 100 mm"), ({"spacing": (1, 2)}, "expected a spacing"),
    ({"size": (8, 8)}, "expected a size of three whole numbers"), ({"size": (8, 8, 1000)}, "expected a size"),
    ({"intensity": (5, 1)}, "expected two intensities, the lower first"), ({"intensity": (1, np.nan)}, "expected two intensities")])
def test_numbers_out_of_range_are_one_line(arguments, message):
    with pytest.raises(tfcnn.InputError, match=message):
        load_volumes(blobs(), **arguments)


def test_slices_in_a_class_folder_are_one_line(tmp_path):
    write_slices(tmp_path / "scans" / "a", range(5))
    write_slices(tmp_path / "scans" / "b", range(5))
    with pytest.raises(tfcnn.InputError, match="expected a folder for the slices of each volume, got slices in the class folder"):
        load_volumes(tmp_path / "scans")


def test_a_missing_extra_is_one_line_with_its_command(tmp_path, monkeypatch, capsys):
    for label in "ab":
        for number in range(3):
            (tmp_path / "scans" / label).mkdir(parents=True, exist_ok=True)
            (tmp_path / "scans" / label / f"{number}.nii").write_bytes(b"x")
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    assert main(["train", str(tmp_path / "scans"), "--kind", "volume", "--output", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.endswith("install it with pip install 'tfcnn[volume]'")


def test_rows_of_a_compressed_file_are_read_one_by_one(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (7, 4, 5, 6)).astype(np.uint8)
    for name, array in (("c", values), ("f", np.asfortranarray(values))):
        np.savez_compressed(tmp_path / f"{name}.npz", x=array, y=np.arange(7))
        np.testing.assert_array_equal(list(rows_of_npz(tmp_path / f"{name}.npz", "x")), values)


def test_the_splits_and_types_of_a_file_of_medmnist_stay_as_they_are(tmp_path):
    values, labels = blobs(30)
    parts = {"train": slice(0, 16), "val": slice(16, 22), "test": slice(22, 30)}
    codes = np.array([[int(label == "high")] for label in labels])
    np.savez_compressed(tmp_path / "made.npz", **{f"{name}_images": values[part].astype(np.uint8) for name, part in parts.items()},
                        **{f"{name}_labels": codes[part] for name, part in parts.items()})
    data = load_volumes(tmp_path / "made.npz")
    assert [len(data.rows(split)) for split in ("train", "validation", "test")] == [16, 6, 8]
    assert data.inputs.dtype == np.uint8 and data.labels == ("0", "1") and data.facts["spacing"] is None
    np.testing.assert_array_equal(data.inputs[data.rows("train")][..., 0], values[:16].astype(np.uint8))
    assert data.facts["mean"][0] == pytest.approx(values[:16].astype(np.uint8).mean(), rel=1e-6)
    assert data.facts["variance"][0] == pytest.approx(values[:16].astype(np.uint8).var(), rel=1e-4)


def test_volumes_are_read_once(tmp_path, monkeypatch):
    for label in "ab":
        for number in range(3):
            write_nifti(tmp_path / "scans" / label / f"{number}.nii", smooth((8, 8, 8), (1, 1, 1)) + number + 5 * (label == "b"), (1, 1, 1))
    first = load_volumes(tmp_path / "scans")
    monkeypatch.setattr("tfcnn.data.volumes.read_volume", lambda *args: pytest.fail("read again"))
    again = load_volumes(tmp_path / "scans")
    np.testing.assert_array_equal(first.inputs[:], again.inputs[:])


def test_equal_volumes_stay_in_one_split_and_the_audit_names_them():
    values, labels = blobs(24)
    values[2] = values[0]
    found = look((values, labels))
    data = load_volumes(found)
    splits = {item.path.rsplit("/", 1)[1]: item.split for item in data.items}
    assert splits["0"] == splits["2"]


def test_the_input_stands_in_a_window_and_is_standardised():
    values = np.linspace(-50, 150, 8 * 8 * 8, dtype=np.float32).reshape(1, 8, 8, 8, 1)
    model = volume_input((8, 8, 8, 1), {"intensity": [0.0, 100.0], "mean": [50.0], "variance": [25.0]})
    np.testing.assert_allclose(model(values).numpy(), (np.clip(values, 0, 100) - 50) / 5, rtol=1e-5)


def test_training_turns_volumes_and_inference_does_not():
    values = np.zeros((200, 16, 16, 16, 1), np.float32)
    values[:, 2:6, 8:12, 10:13] = 5
    model = volume_input((16, 16, 16, 1), {"intensity": None, "mean": [0.0], "variance": [1.0]})
    np.testing.assert_array_equal(model(values, training=False), values)
    keras.utils.set_random_seed(0)
    moved = model(values, training=True).numpy()
    centres = np.stack(np.meshgrid(*[np.arange(16.0)] * 3, indexing="ij"), axis=-1)
    weights = np.where(moved > 2.5, moved, 0)
    found = (weights * centres).sum(axis=(1, 2, 3)) / weights.sum(axis=(1, 2, 3))
    assert (found.std(axis=0) > 1).all()
    noise = moved[:, :2, :2, :2].std(axis=(1, 2, 3, 4))
    assert 5 < (noise > 0.01).sum() < 40 and noise.max() < 0.2  # of 200; as they are, but for flips, are most of them: networks have to know those too
    sizes = (moved > 2.5).sum(axis=(1, 2, 3, 4)) / 48
    assert 0.4 < sizes.min() < 0.95 and 1.05 < sizes.max() < 2
    assert 90 < (noise[np.isclose(found % 0.5, 0, atol=1e-4).all(axis=1)] < 1e-6).sum() < 150
    set_strength(model, "none")
    np.testing.assert_array_equal(model(values, training=True), values)


def test_a_turned_plane_is_the_plane_of_a_rotation():
    layer = VaryVolumes()
    layer.draw = lambda shape: np.full(shape, 1.0, np.float32)  # the largest angle, scale and shifts
    layer._some = lambda x, share: np.ones(len(x), np.float32)
    layer.strength = 1.0
    moved = layer._moved(np.ones((1, 9, 9, 1), np.float32) * np.arange(9, dtype=np.float32)[None, None, :, None]).numpy()
    gradient = np.diff(moved[0, 3:6, 2:6, 0], axis=1)
    assert gradient.mean() == pytest.approx(1.15 * np.cos(np.radians(15)), rel=0.02)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_volumes_give_features_and_their_blocks_are_stages(name):
    network = NETWORKS[name]((16, 24, 24, 1))
    model = tfcnn.build_classifier(network, labels=["a", "b"])
    assert model(np.zeros((2, 16, 24, 24, 1), np.float32)).shape == (2, 2)
    stages = {"cnn_3d": ["block1", "block2", "block3", "block4"]}.get(name, ["stem", "stage1", "stage2", "stage3", "stage4"])
    assert [row.stage for row in tfcnn.set_trainable(model, True).stages][:-1] == stages


def test_the_residual_networks_have_the_parameters_of_the_paper():
    """Tran et al. 2018, section 3.5: the factored convolutions have about as many as the full ones; 33.4 million with the layer for Kinetics-400."""
    counts = {name: sum(int(np.prod(weight.shape)) for weight in NETWORKS[name]((8, 112, 112, 3)).trainable_weights) for name in ("r3d_18", "r2plus1d_18")}
    assert counts["r3d_18"] + 512 * 400 + 400 == 33_371_472
    assert counts["r2plus1d_18"] == pytest.approx(counts["r3d_18"], rel=0.005)


def test_the_telling_voxels_are_where_the_blob_is():
    volume = keras.Input((12, 12, 12, 1), name="volume")
    x = keras.layers.Conv3D(1, 3, padding="same", activation="relu", use_bias=False, name="find")(volume)
    model = tfcnn.build_classifier(keras.Model(volume, x), labels=["blob", "none"], dropout=0)
    model.get_layer("backbone").get_layer("find").set_weights([np.ones((3, 3, 3, 1, 1), np.float32)])
    model.get_layer("logits").set_weights([np.array([[1.0, -1.0]], np.float32), np.zeros(2, np.float32)])
    values = np.zeros((2, 12, 12, 12, 1), np.float32)
    values[0, 2, 9, 5] = values[1, 7, 3, 4] = 1
    heat = telling_voxels(model, values, np.zeros(2, np.int64))
    assert heat.shape == (2, 12, 12, 12) and heat.max() == 1
    assert heat[0, 2, 9, 5] == 1 and heat[0, 1:4, 8:11, 4:7].sum() == heat[0].sum()
    assert heat[1, 7, 3, 4] == 1 and not telling_voxels(model, values, np.ones(2, np.int64)).any()


def test_a_drawing_has_three_planes_and_three_through_the_strongest_voxel():
    values, _ = blobs(1)
    heat = np.zeros(values[0].shape, np.float32)
    heat[3, 4, 5] = 1
    drawn = draw_volume(values[0][..., None], heat, {"intensity": None}, "", large=True)
    assert drawn.count("<img") == 6 and 'alt="axial plane 4 of 12, coloured"' in drawn and 'alt="sagittal plane 6 of 12, coloured"' in drawn
    assert draw_volume(values[0][..., None], None, {}, "", large=False).count("<img") == 1


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """NIfTI files of several axes and spacings."""
    folder = tmp_path_factory.mktemp("scans")
    values, labels = blobs(60)
    for row, (volume, label) in enumerate(zip(values, labels, strict=True)):
        fine, spacing = (volume.repeat(2, axis=1), (1, 0.5, 1)) if row % 3 == 0 else (volume, (1, 1, 1))
        write_nifti(folder / label / f"{row}.nii.gz", fine, spacing, ("RAS", "LPI", "SAL")[row % 3])
    return folder


@pytest.fixture(scope="module")
def run(scans, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "blobs"
    assert main(["train", str(scans), "--kind", "volume", "--spacing", "1", "--size", "12,12,12", "--intensity", "0,250", "--augmentation", "none",
                 "--epochs", "30", "--export", "saved_model", "tflite_float32", "tflite_float16", "tflite_dynamic", "--output", str(output)]) == 0
    return tfcnn.load_run(output)


def test_a_run_of_volumes_is_tested_exported_and_reported(run):
    assert run.record["test"]["accuracy"] >= 0.9
    assert run.record["input_shape"] == [12, 12, 12, 1] and run.facts["intensity"] == [0.0, 250.0] and run.facts["spacing"] == [1.0, 1.0, 1.0]
    assert len(run.record["exports"]) == 4 and all(row["agreement"] == 1 for row in run.record["exports"])
    page = (run.path / "report.html").read_text()
    assert page.count('class="volume"') >= 3 and "Grad-CAM in three dimensions" in page and "intensities as they were measured, 1 x 1 x 1 mm each" in page


def test_a_run_of_volumes_is_evaluated_again_and_predicts_files(run, scans, tmp_path, capsys):
    data = load_volumes(scans, facts=run.facts, seed=0)
    assert tfcnn.evaluate(run, data).to_dict()["accuracy"] == run.record["test"]["accuracy"]
    values, _ = blobs(2, seed=5)
    files = [write_nifti(tmp_path / f"{row}.nii", volume, (1, 1, 1), "PIR") for row, volume in enumerate(values)]
    (tmp_path / "broken.nii").write_bytes(b"nothing")
    assert main(["predict", str(run.path), *files, str(tmp_path / "broken.nii")]) == 0
    said = capsys.readouterr()
    assert re.search(r"0\.nii\s+high", said.out) and re.search(r"1\.nii\s+low", said.out)
    assert "broken.nii" in said.out + said.err
    write_slices(tmp_path / "case", range(12), size=(12, 12))
    (one,) = tfcnn.predict(run, [tmp_path / "case"])
    assert one.label in ("low", "high")


def test_the_audit_of_volumes_says_what_is_unusual(scans, tmp_path, capsys):
    assert main(["audit", str(scans), "--kind", "volume", "--spacing", "1", "--output", str(tmp_path / "audit")]) in (0, 1)
    assert "60" in capsys.readouterr().out


def test_the_shared_volumes_keep_their_splits(shared):
    file = shared / "volumes" / "adrenalmnist3d_32.npz"
    data = load_volumes(file)
    assert data.input_shape == (32, 32, 32, 1) and [len(data.rows(split)) for split in ("train", "validation", "test")] == [1188, 98, 298]
    assert shapes_of_npz(file)["train_images"][0] == (1188, 32, 32, 32)
    assert build_cnn_3d(data.input_shape).count_params() < 1_000_000
