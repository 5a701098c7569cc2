"""Videos: files and folders of frames become clips by their times, what is refused, and motion that no single frame tells."""

import re
import shutil

import keras
import numpy as np
import pytest

import tfcnn
from tfcnn.cli import main
from tfcnn.data import video_files
from tfcnn.data.video_files import covering, measure, read_frames, steps_of
from tfcnn.data.videos import load_videos, look, places_of
from tfcnn.evaluation.draw_video import draw_video
from tfcnn.evaluation.stretches import telling_voxels
from tfcnn.models.build import build_for_videos
from tfcnn.models.classifier import ModelConfig
from tfcnn.models.forward import forward
from tfcnn.models.vary import set_strength
from tfcnn.models.videos import video_input

av = pytest.importorskip("av")


def moving(to_the_right: bool, seed: int, frames: int = 16, side: int = 32) -> np.ndarray:
    """A square of random colour, size and speed on a random ground; it comes in again where it goes out, so that single frames of both classes are alike."""
    random = np.random.default_rng(seed)
    down, across = random.uniform(0, side, 2)
    speed, size = random.uniform(1.5, 3) * (1 if to_the_right else -1), random.integers(6, 11)
    ground, colour = random.integers(0, 100, 3), random.integers(150, 256, 3)
    rows, columns = np.mgrid[:side, :side]
    inside = [((columns - across - speed * frame) % side < size) & ((rows - down) % side < size) for frame in range(frames)]
    return np.where(np.stack(inside)[..., None], colour, ground).astype(np.uint8)


def write_video(path, frames: np.ndarray, rate: int = 10, codec: str = "libx264", times=None, turned: int = 0, options=None, aspect=None) -> str:
    """A file of frames, at these times in milliseconds where they are given; `options` of the encoder, `aspect` of a pixel."""
    from fractions import Fraction

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options={**({"crf": "10"} if codec == "libx264" else {"qscale": "1"}), **(options or {})})
        (stream.height, stream.width), stream.pix_fmt = frames.shape[1:3], "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if turned:
            stream.set_display_rotation(turned)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            if times is not None:
                frame.pts, frame.time_base = int(times[number]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return str(path)


def counting(count: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Frames of one grey each, rising."""
    return np.full((count, height, width, 3), np.linspace(20, 235, count)[:, None, None, None], np.uint8)


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    """A folder of class folders with videos of squares that move to the left and to the right."""
    folder = tmp_path_factory.mktemp("video") / "motion"
    for label in ("left", "right"):
        for number in range(75):
            write_video(folder / label / f"{number:02d}.mp4", moving(label == "right", 2 * number + (label == "right")))
    return folder


@pytest.mark.parametrize(("ending", "codec"), [("mp4", "libx264"), ("mkv", "libx264"), ("mov", "mpeg4"), ("avi", "mpeg4"), ("avi", "mjpeg"),
                                               ("webm", "libvpx-vp9"), ("mpg", "mpeg2video")])
def test_frames_are_those_of_their_times_in_every_container(tmp_path, ending, codec):
    frames = counting(30)
    file = write_video(tmp_path / f"a.{ending}", frames, rate=25, codec=codec)
    measured = measure([file])
    assert measured.shape == (30, 32, 48) and measured.rate == pytest.approx(25, rel=0.01)
    found = read_frames([file], 25.0, [0, 3, 10, 29], (32, 48))
    assert found.dtype == np.uint8 and found.shape == (4, 32, 48, 3)
    np.testing.assert_allclose(found.mean(axis=(1, 2, 3)), frames[[0, 3, 10, 29]].mean(axis=(1, 2, 3)), atol=3)


def test_frames_of_other_and_of_varying_rates_are_those_that_were_to_be_seen(tmp_path):
    slow = write_video(tmp_path / "slow.mp4", counting(10), rate=5)
    assert steps_of(measure([slow]), 10.0) == 19
    twice = read_frames([slow], 10.0, list(range(19)), (32, 48)).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(twice[::2], counting(10).mean(axis=(1, 2, 3)), atol=3)
    np.testing.assert_allclose(twice[1::2], twice[:-1:2], atol=1)  # what is shown until the next frame comes
    times = [0, 100, 150, 200, 700, 800, 900, 1000, 1100, 1200]
    varying = write_video(tmp_path / "varying.mkv", counting(10), times=times)
    found = read_frames([varying], 10.0, list(range(13)), (32, 48)).mean(axis=(1, 2, 3))
    shown = [max(row for row, time in enumerate(times) if time <= 100 * step) for step in range(13)]
    np.testing.assert_allclose(found, counting(10).mean(axis=(1, 2, 3))[shown], atol=3)


@pytest.mark.parametrize(("ending", "codec", "options"), [
    ("mp4", "libx264", {"bf": "2", "sc_threshold": "0"}), ("mkv", "libx264", {"bf": "2", "sc_threshold": "0", "g": "30"}),
    ("mpg", "mpeg2video", {"bf": "2", "g": "15"}), ("avi", "mpeg4", {"bf": "2"}),
    ("avi", "libx264", {"bf": "3"}), ("webm", "libvpx-vp9", {}), ("ts", "libx264", {"bf": "2", "sc_threshold": "0"})])
def test_frames_of_a_long_video_are_found_behind_jumps_in_every_container(tmp_path, ending, codec, options):
    levels = np.arange(400) * 37 % 211 + 20  # unlike those of the frames beside them
    frames = np.full((400, 32, 48, 3), levels[:, None, None, None], np.uint8)
    file = write_video(tmp_path / f"a.{ending}", frames, rate=25, codec=codec, options=options)
    rate, wanted = measure([file]).rate, [0, 1, 2, 180, 181, 250, 398, 399]
    assert rate == pytest.approx(25, rel=0.01)
    found = read_frames([file], 25.0, wanted, (32, 48)).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(found, levels[wanted], atol=8)


def test_a_long_video_is_not_decoded_between_its_clips(tmp_path, monkeypatch):
    file = write_video(tmp_path / "long.mp4", counting(200, 16, 16), rate=10, options={"g": "20", "sc_threshold": "0"})
    wanted, decoded = [0, 1, 2, 98, 99, 100, 197, 198, 199], []
    timed = video_files._timed

    def counted(container, stream, *rest, **more):
        frames = timed(container, stream, *rest, **more)
        decoded.append((len(frames), more["jumps"]))
        return frames

    monkeypatch.setattr(video_files, "_timed", counted)
    found = read_frames([file], 10.0, wanted, (16, 16)).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(found, counting(200, 16, 16).mean(axis=(1, 2, 3))[wanted], atol=3)
    assert decoded == [(9, True)] and video_files._runs([0.0, 0.1, 0.2, 9.8, 9.9, 19.7], range(6)) == [[0, 1, 2], [3, 4], [5]]


def test_what_an_edit_list_cuts_off_and_what_stands_before_the_first_whole_picture_is_not_counted(tmp_path):
    """As trimming without encoding leaves files."""
    frames = counting(60)
    whole = write_video(tmp_path / "whole.mp4", frames, rate=25, options={"g": "10", "bf": "0", "sc_threshold": "0"})
    trimmed, cut = str(tmp_path / "trimmed.mp4"), str(tmp_path / "cut.mkv")
    for target, skip, back in ((trimmed, 0, 20), (cut, 5, 0)):
        with av.open(whole) as source, av.open(target, "w") as container:
            stream = container.add_stream_from_template(source.streams.video[0])
            step = None
            for number, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
                step = step or packet.duration
                if number >= skip:
                    packet.pts, packet.dts, packet.stream = packet.pts - back * step, packet.dts - back * step, stream
                    container.mux(packet)
    for file, first, count in ((trimmed, 20, 40), (cut, 10, 50)):
        assert measure([file]).shape[0] == count
        found = read_frames([file], 25.0, [0, 7, count - 1], (32, 48)).mean(axis=(1, 2, 3))
        np.testing.assert_allclose(found, frames[[first, first + 7, 59]].mean(axis=(1, 2, 3)), atol=3)


def test_pixels_that_are_not_square_become_so(tmp_path):
    from fractions import Fraction

    file = write_video(tmp_path / "wide.mp4", counting(5), aspect=Fraction(2, 1))
    assert measure([file]).shape == (5, 32, 96)


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_video_that_a_phone_turned_is_shown_upright(tmp_path, degrees):
    frames = np.zeros((5, 32, 48, 3), np.uint8)
    frames[:, :, :12] = 250  # the left edge
    file = write_video(tmp_path / "a.mp4", frames, turned=degrees)
    high, wide = (48, 32) if degrees % 180 else (32, 48)
    assert measure([file]).shape == (5, high, wide)
    expected = np.rot90(frames[0], degrees // 90)
    assert np.abs(read_frames([file], 10.0, [2], (high, wide))[0].astype(int) - expected).mean() < 6


def test_a_folder_of_frames_is_a_video_in_the_order_of_its_numbers(tmp_path):
    from PIL import Image

    frames = counting(12)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"frame{number}.png")  # 10 and 11 come last
    files = sorted(map(str, tmp_path.glob("*.png")))
    assert measure(files).shape == (12, 32, 48) and measure(files).rate is None
    np.testing.assert_array_equal(read_frames(files, 25.0, [0, 2, 11], (32, 48)), frames[[0, 2, 11]])


def test_frames_are_scaled_to_cover_the_size_and_cut_at_two_sides():
    from PIL import Image

    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 17:63] = 255
    np.testing.assert_array_equal(covering(Image.fromarray(pixels), (20, 20)), np.full((20, 20, 3), 255))
    assert covering(Image.fromarray(pixels), (40, 80)).tolist() == pixels.tolist()


def test_clips_stand_from_the_beginning_to_the_end():
    assert places_of(10, 4, 2, 1) == [1, 3, 5, 7] and places_of(7, 4, 2, 1) == [0, 2, 4, 6]
    assert places_of(12, 3, 2, 3) == [0, 2, 4, 4, 6, 8, 7, 9, 11]
    with pytest.raises(tfcnn.InputError, match=re.escape("too short: 6 frames, a clip takes 7 (4 frames with stride 2)")):
        places_of(6, 4, 2, 2)


def test_what_is_no_video_is_left_out_with_its_reason(motion, tmp_path):
    folder = tmp_path / "motion"
    shutil.copytree(motion, folder)
    left = folder / "left"
    (left / "text.mp4").write_text("no video at all")
    (left / "empty.mp4").write_bytes(b"")
    (left / "half.mp4").write_bytes((left / "00.mp4").read_bytes()[:700])
    write_video(tmp_path / "whole.avi", np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), np.uint8), codec="mjpeg")
    content = (tmp_path / "whole.avi").read_bytes()
    (left / "damaged.avi").write_bytes(content[:len(content) // 4] + bytes(len(content) // 2) + content[3 * len(content) // 4:])
    write_video(left / "one.mp4", counting(1))
    write_video(left / "short.mp4", counting(4))
    (left / "notes.txt").write_text("not a video")
    shutil.copy(left / "00.mp4", folder / "right" / "copy.mp4")
    (folder / "right" / "gap").mkdir()
    from PIL import Image

    for number in (1, 2, 4):
        Image.fromarray(counting(1)[0]).save(folder / "right" / "gap" / f"{number}.png")
    data = load_videos(folder, size=(16, 32, 32), stride=1)
    reasons = {q.path.rpartition("/")[2]: q.reason for q in data.quarantined}
    assert set(reasons) >= {"text.mp4", "empty.mp4", "half.mp4", "damaged.avi", "one.mp4", "short.mp4", "00.mp4", "copy.mp4", "gap"}
    assert all(reasons[name].startswith("not readable as a video: ") for name in ("text.mp4", "half.mp4")) and reasons["empty.mp4"] == "no bytes"
    assert "\n" not in "".join(reasons.values())
    assert reasons["one.mp4"] == "expected a video of several frames, got 1"
    assert reasons["short.mp4"] == "too short: 4 frames, a clip takes 16 (16 frames with stride 1)"
    assert reasons["gap"] == "frames are missing between 2.png and 4.png"
    assert re.match(r"\d+ of \d+ frames cannot be decoded, the first at [\d.]+ s$", reasons["damaged.avi"]) or reasons["damaged.avi"].startswith("cannot be")
    assert reasons["copy.mp4"].startswith("contradiction: the same video is labelled 'right' here and 'left' in")


def test_a_video_is_decoded_once(motion, monkeypatch):
    first = load_videos(motion, size=(8, 24, 24))
    monkeypatch.setattr("tfcnn.data.videos.read_frames", lambda *args: pytest.fail("decoded again"))
    again = load_videos(motion, size=(8, 24, 24))
    rows = first.rows("test")[:3]
    np.testing.assert_array_equal(first.inputs[rows], again.inputs[rows])


def test_a_size_a_stride_and_clips_are_found_for_videos_of_any_length(tmp_path):
    for label in ("a", "b"):
        for number in range(4):
            write_video(tmp_path / label / f"{number}.mp4", counting(100, 120, 240) - np.uint8(2 * number + (label == "a")), rate=20)
    facts = look(tmp_path).facts
    assert {name: facts[name] for name in ("length", "height", "width", "stride", "rate", "clips", "channels", "frame")} \
        == {"length": 16, "height": 112, "width": 224, "stride": 4, "rate": 20.0, "clips": 2, "channels": 3, "frame": ", one each 0.2 s"}
    data = load_videos(tmp_path, size=(4, 32, 32), stride=10, clips=3, split=None)
    assert data.input_shape == (12, 32, 32, 3) and data.inputs.dtype == np.uint8


@pytest.mark.parametrize(("arguments", "message"), [
    ({"size": (1, 32, 32)}, "expected a size of three whole numbers, 2 to 512 frames"), ({"size": (8, 32)}, "expected a size of three"),
    ({"stride": 0}, "expected a whole number from 1 to 1000, got stride=0"), ({"clips": 2.0}, "expected a whole number from 1 to 20, got clips=2.0"),
    ({"size": (60, 32, 32)}, "expected videos of 60 frames or more for clips of 60 with stride 1, got 16 at most; give a smaller size or stride")])
def test_numbers_that_cannot_be_are_one_line(motion, arguments, message):
    with pytest.raises(tfcnn.InputError, match=message):
        load_videos(motion, **arguments)


def test_without_the_extra_the_line_names_it(motion, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    assert main(["train", str(motion), "--kind", "video", "--output", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "install it with pip install 'tfcnn[video]'" in line


def test_arrays_are_videos_too():
    values = np.stack([moving(bool(row % 2), row, 6) for row in range(12)])
    data = load_videos((values, ["right" if row % 2 else "left" for row in range(12)]))
    assert data.input_shape == (6, 32, 32, 3)
    np.testing.assert_array_equal(data.inputs[np.array([0])][0], values[int(data.items[0].path.rpartition("/")[2])])
    grey = load_videos((values[..., 0], ["right" if row % 2 else "left" for row in range(12)]), size=(4, 16, 16), clips=1)
    assert grey.input_shape == (4, 16, 16, 1)
    for wrong, message in ((values[0], "frames of 8 pixels or more, got 32 x 3"), (values[0, ..., 0], "videos as numbers of shape"),
                           (np.zeros((12, 6, 16, 16, 2)), "frames of 1 or 3 channels, got 2")):
        with pytest.raises(tfcnn.InputError, match=message):
            load_videos((wrong, [str(row % 2) for row in range(len(wrong))]))


def test_arrays_that_hold_no_pixels_are_left_out_or_one_line():
    values = np.stack([moving(bool(row % 2), row, 6) for row in range(12)])
    labels = ["right" if row % 2 else "left" for row in range(12)]
    with pytest.raises(tfcnn.InputError, match="expected pixels from 0 to 255, got 0 to 1; multiply them by 255"):
        load_videos(((values / 255).astype(np.float32), labels))
    odd = values.astype(np.int16)
    odd[3, 2, 1, 1] = (0, 300, 0)
    assert [q.reason for q in load_videos((odd, labels)).quarantined] == ["expected pixels from 0 to 255, got 0 to 300"]
    for wrong, message in ((values[:, :1], "several frames, got 1"), (values[:, :0], "several frames, got 0"), (values[:0], "expected videos, got none")):
        with pytest.raises(tfcnn.InputError, match=message):
            load_videos((wrong, labels[:len(wrong)]))


def test_files_are_read_frame_by_frame_where_the_training_had_no_times_and_in_grey_where_it_was_grey(tmp_path):
    from PIL import Image

    for label in ("a", "b"):
        for video in range(4):
            (tmp_path / "data" / label / str(video)).mkdir(parents=True)
            for number, frame in enumerate(counting(6) // (1 + video + 4 * (label == "b"))):
                Image.fromarray(frame).save(tmp_path / "data" / label / str(video) / f"{number}.png")
    data = load_videos(tmp_path / "data", size=(4, 32, 48))
    assert data.facts["rate"] is None and data.facts["stride"] == 1
    file = write_video(tmp_path / "file.mp4", counting(40), rate=25)
    facts = {**data.facts, "clips": 1}
    _, read = tfcnn.data.videos.read_files([file], (4, 32, 48, 3), facts)
    ((values, fault),) = read(range(1))
    assert fault is None
    np.testing.assert_allclose(values.mean(axis=(1, 2, 3)), counting(40)[18:22].mean(axis=(1, 2, 3)), atol=3)
    ((grey, _),) = tfcnn.data.videos.read_files([file], (4, 32, 48, 1), {**facts, "channels": 1})[1](range(1))
    assert grey.shape == (4, 32, 48, 1) and np.abs(grey[..., 0] - values.mean(axis=-1)).max() < 4
    colour = np.stack([moving(bool(row % 2), row, 6) for row in range(8)])
    with pytest.raises(tfcnn.InputError, match="the first: array/0: 1 channels, not 3"):
        load_videos((colour[..., :1], list("abababab")), split=None, facts=facts)


def test_frames_of_more_than_8_bits_say_so(tmp_path):
    from PIL import Image

    for number in range(3):
        Image.fromarray(np.full((20, 20), 3000 * (number + 1), np.uint16)).save(tmp_path / f"{number}.png")
    with pytest.raises(tfcnn.InputError, match=r"frames of 8 bits a colour are expected, got mode I;16 in 0\.png"):
        measure(sorted(map(str, tmp_path.glob("*.png"))))


def test_the_same_pictures_in_another_order_are_another_video(tmp_path):
    from PIL import Image

    for label, order in (("forward", range(4)), ("back", range(3, -1, -1))):
        for video in range(3):
            folder = tmp_path / label / str(video)
            folder.mkdir(parents=True)
            for number, place in enumerate(order):
                Image.fromarray(counting(4)[place] // (video + 1)).save(folder / f"{'abcd'[place]}{number}.png")
    data = load_videos(tmp_path, size=(4, 32, 48))
    assert len(data.items) == 6 and not data.quarantined
    for row, item in enumerate(data.items):
        rising = np.diff(data.inputs[np.array([row])][0].mean(axis=(1, 2, 3))) > 0
        assert rising.all() if "forward" in item.path else not rising.any()


def test_a_training_sees_one_clip_and_an_answer_is_the_mean_of_all():
    facts = {"clips": 3, "length": 4, "height": 16, "width": 16, "channels": 3, "mean": [0.0] * 3, "variance": [1.0] * 3}
    model = build_for_videos(ModelConfig("cnn_3d", "none"), ["a", "b"], (12, 16, 16, 3), facts)
    x = np.random.default_rng(0).uniform(0, 1, (2, 12, 16, 16, 3)).astype(np.float32)
    features = keras.Model(model.inputs[0], model.get_layer("pooling").output)
    one = build_for_videos(ModelConfig("cnn_3d", "none"), ["a", "b"], (4, 16, 16, 3), {**facts, "clips": 1})
    one.get_layer("backbone").set_weights(model.get_layer("backbone").get_weights())
    single = keras.Model(one.inputs[0], one.get_layer("pooling").output)
    parts = [single(x[:, 4 * clip:4 * clip + 4], training=False).numpy() for clip in range(3)]
    np.testing.assert_allclose(features(x, training=False).numpy(), np.mean(parts, axis=0), atol=1e-5)
    before = video_input((12, 16, 16, 3), facts)
    set_strength(before, "light")
    assert before(x, training=True).shape == (2, 4, 16, 16, 3) and before(x, training=False).shape == (6, 4, 16, 16, 3)


def test_augmentation_moves_all_frames_of_a_clip_alike_and_mirrors_none():
    frames = np.zeros((200, 2, 24, 24, 1), np.float32)
    frames[:, :, 4:20, 2:6] = 1  # at the left edge
    layer = video_input((2, 24, 24, 1), {"clips": 1, "mean": [0.0], "variance": [1.0]}).get_layer("vary")
    moved = layer(frames, training=True).numpy()
    changed = np.abs(moved - frames).max(axis=(1, 2, 3, 4)) > 0.5
    assert 20 < changed.sum() < 70
    left, right = moved[..., :12, 0].sum(axis=(1, 2, 3)), moved[..., 12:, 0].sum(axis=(1, 2, 3))
    assert (left > right).all()
    calm = changed & (np.abs(moved[:, 0] - moved[:, 1]).max(axis=(1, 2, 3)) < 1e-5)
    assert calm.sum() > 0.7 * changed.sum()  # the others have noise too
    np.testing.assert_array_equal(layer(frames, training=False).numpy(), frames)


@pytest.fixture(scope="module")
def run(motion, tmp_path_factory):
    """A run of the command line with the network that is there where none is named."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", str(motion), "--kind", "video", "--epochs", "30", "--output", str(folder), "--export", "saved_model", "tflite_float32",
                 "tflite_dynamic"]) == 0
    return tfcnn.load_run(folder)


@pytest.mark.slow
def test_a_network_of_clips_tells_motion_and_single_frames_do_not(run, motion, v3_small_weights, tmp_path):
    assert run.record["test"]["accuracy"] >= 0.95
    assert [row["agreement"] for row in run.record["exports"]] == [1, 1, 1] or run.record["exports"][-1]["verdict"] != "accepted"
    assert main(["train", str(motion), "--kind", "video", "--backbone", "mobilenet_v3_small", "--weights", str(v3_small_weights), "--image-size", "32",
                 "--trainable", "none", "--output", str(tmp_path / "frames"), "--export", "none"]) == 0
    alone = tfcnn.load_run(tmp_path / "frames").record["test"]
    assert 0.2 <= alone["accuracy"] <= 0.8  # 30 test videos: chance is 0.5 ± 0.18 in 95 of 100 cases


@pytest.mark.slow
def test_a_run_of_videos_is_reported_evaluated_again_and_predicts_files(run, motion, tmp_path, capsys):
    page = (run.path / "report.html").read_text(encoding="utf-8")
    words = " ".join(re.sub(r"<[^>]*>", " ", page.split("<body")[1]).split())
    assert "30 test videos" in words and "photo" not in words and "frame 1 of 16" in page
    assert tfcnn.evaluate(run).to_dict() == tfcnn.evaluate(run, load_videos(motion, facts=run.facts, seed=0)).to_dict()
    (tmp_path / "broken.mp4").write_text("nothing")
    new = [write_video(tmp_path / f"{row}.mp4", moving(bool(row % 2), 900 + row, frames=20)) for row in range(4)]
    found = tfcnn.predict(run, [*new, tmp_path / "broken.mp4"])
    assert sum(one.label == ("right" if row % 2 else "left") for row, one in enumerate(found[:4])) >= 3
    assert "broken.mp4: not readable as a video" in found[4].error
    assert main(["audit", str(motion), "--kind", "video", "--output", str(tmp_path / "audit")]) == 0


def test_a_drawing_of_a_video_is_a_strip_and_heat_stands_below(tmp_path):
    facts = {"clips": 2, "length": 8, "height": 16, "width": 16, "channels": 3, "mean": [100.0] * 3, "variance": [900.0] * 3}
    model = build_for_videos(ModelConfig("cnn_3d", "none"), ["a", "b"], (16, 16, 16, 3), facts)
    x = np.stack([moving(True, 1, 16, 16), moving(False, 2, 16, 16)])
    heat = telling_voxels(model, x.astype(np.float32), np.array([0, 1]))
    assert heat.shape == (2, 16, 16, 16) and heat.min() >= 0 and heat.max() <= 1
    assert forward(model, x).shape == (2, 2)
    hot = np.zeros((16, 16, 16), np.float32)
    hot[3, 4, 4] = 1
    large = draw_video(x[0], hot, facts, "", large=True)
    assert large.count("<img") == 8 and "frame 1 of 8, clip 1 of 2, coloured" in large and large.count('class="planes"') == 2
    assert draw_video(x[0], None, facts, "", large=True).count("<img") == 4
    assert draw_video(x[0], hot, facts, "", large=False).count("<img") == 1
