"""Sound: what is read and how, what is refused, the spectrogram inside of the model, and a run from files to a .tflite of raw samples."""

import json
import re

import keras
import numpy as np
import pytest
import soundfile

import tfcnn
from tfcnn.cli import main
from tfcnn.data.audio import load_audio, look, read_clip
from tfcnn.data.run_data import load_for_run, load_run_data
from tfcnn.export.read_tflite import read_tflite
from tfcnn.export.run_file import load_tflite
from tfcnn.models import audio, vary
from tfcnn.models.build import build_for_audio
from tfcnn.models.classifier import ModelConfig
from tfcnn.models.forward import forward
from tfcnn.models.vary import set_strength

RATE = 8000


def tone(hz: float, seconds: float = 0.3, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """A noisy sine."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hz * time) + np.random.default_rng(seed).normal(0, 0.02, len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """A folder of high and low tones in three formats, of different lengths."""
    folder = tmp_path_factory.mktemp("sound") / "tones"
    for label, base in (("low", 300), ("high", 1500)):
        (folder / label).mkdir(parents=True)
        for number in range(14):
            ending = ("wav", "flac", "ogg")[number % 3]
            soundfile.write(folder / label / f"{number:02d}.{ending}", tone(base + 20 * number, 0.2 + 0.01 * number, seed=number), RATE)
    return folder


def test_clips_are_read_at_one_rate_and_filled_up_with_zeros(tones):
    data = load_audio(tones)
    assert data.kind == "audio" and data.labels == ("high", "low") and len(data.items) == 28
    assert data.facts == {"sample_rate": RATE, "samples": round(0.33 * RATE)} and data.input_shape == (2640,) and data.inputs.dtype == np.float32
    row = next(row for row, item in enumerate(data.items) if item.path.endswith("high/00.wav"))
    np.testing.assert_allclose(data.inputs[row, :1600], tone(1500, 0.2), atol=1e-4)
    assert not data.inputs[row, 1600:].any()
    assert {split: len(data.rows(split)) for split in ("train", "validation", "test")} == {"train": 20, "validation": 2, "test": 6}


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "PCM_U8", "FLOAT", "DOUBLE", "ULAW"])
def test_every_kind_of_wav_gives_the_same_samples(tmp_path, subtype):
    samples = tone(440)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype=subtype)
    np.testing.assert_allclose(read_clip(tmp_path / "a.wav", RATE), samples, atol=0.02 if subtype in ("PCM_U8", "ULAW") else 1e-4)


def test_two_channels_are_averaged_and_other_rates_resampled(tmp_path):
    soundfile.write(tmp_path / "stereo.wav", np.stack([tone(440), np.zeros(2400, np.float32)], axis=1), RATE)
    np.testing.assert_allclose(read_clip(tmp_path / "stereo.wav", RATE), tone(440) / 2, atol=1e-4)
    soundfile.write(tmp_path / "fast.wav", tone(440, rate=44100), 44100)
    slow = read_clip(tmp_path / "fast.wav", RATE)
    assert len(slow) == 2400
    frequencies = np.fft.rfftfreq(2400, 1 / RATE)
    assert frequencies[np.abs(np.fft.rfft(slow)).argmax()] == pytest.approx(440, abs=4)


def test_several_rates_are_said_and_the_most_frequent_is_taken(tones, tmp_path, caplog):
    for label in ("low", "high"):
        (tmp_path / label).mkdir()
        for number in range(4):
            rate = 16000 if number == 0 else RATE
            soundfile.write(tmp_path / label / f"{number}.wav", tone(500 if label == "low" else 900, rate=rate, seed=number), rate)
    assert load_audio(tmp_path).facts["sample_rate"] == RATE
    assert "several sampling rates (8000 Hz: 6, 16000 Hz: 2): all are brought to 8000 Hz" in caplog.text
    assert load_audio(tmp_path, sample_rate=16000).inputs.shape[1] == 4800


def test_what_is_no_sound_is_left_out_with_its_reason(tones, tmp_path):
    import shutil

    shutil.copytree(tones, tmp_path / "sound")
    low = tmp_path / "sound" / "low"
    (low / "text.wav").write_text("no sound at all")
    (low / "half.wav").write_bytes((low / "00.wav").read_bytes()[:30])
    soundfile.write(low / "nan.wav", np.array([0.1, np.nan, 0.2], np.float32), RATE, subtype="FLOAT")
    soundfile.write(low / "nothing.wav", np.zeros(0, np.float32), RATE)
    soundfile.write(low / "silence.wav", np.zeros(900, np.float32), RATE)
    shutil.copy(low / "00.wav", tmp_path / "sound" / "high" / "copy.wav")
    data = load_audio(tmp_path / "sound")
    reasons = {q.path.rpartition("/")[2]: q.reason for q in data.quarantined}
    assert set(reasons) == {"text.wav", "half.wav", "nan.wav", "nothing.wav", "00.wav", "copy.wav"}
    assert reasons["text.wav"].startswith("not readable as sound") and reasons["half.wav"].startswith("not readable as sound")
    assert reasons["nan.wav"] == "NaN or infinite samples" and reasons["nothing.wav"] == "no samples"
    assert reasons["copy.wav"].startswith("contradiction: the same clip is labelled 'high' here and 'low' in")
    assert [path.rpartition("/")[2] for path in look(tmp_path / "sound").notes["silent"]] == ["silence.wav"]
    audit = tfcnn.audit(tmp_path / "sound", kind="audio")
    assert any(text.startswith("1 clip in which nothing is to be heard") for text in audit.warnings) and "fine " not in str(audit)


def test_silence_makes_no_clip_a_copy_of_another(tmp_path):
    for label, hz in (("low", 300), ("high", 1500)):
        (tmp_path / label).mkdir()
        for number in range(10):
            sound = tone(hz, 0.3, seed=number)
            soundfile.write(tmp_path / label / f"{number}.wav", np.concatenate([sound, np.zeros_like(sound)]), RATE)
    data = load_audio(tmp_path, window=0.3)
    assert len(data.items) == 40 and not data.quarantined
    assert {split: len({item.path.partition("#")[0] for item in data.items if item.split == split}) for split in ("train", "validation", "test")} \
        == {"train": 14, "validation": 2, "test": 4}
    again = load_audio(tmp_path, window=0.3)
    assert [item.sha256 for item in again.items] == [item.sha256 for item in data.items]


def test_a_long_clip_becomes_several_examples_that_stay_together(tmp_path):
    for label, hz in (("low", 300), ("high", 1500)):
        (tmp_path / label).mkdir()
        for number in range(5):
            soundfile.write(tmp_path / label / f"{number}.wav", tone(hz, 1.05, seed=number), RATE)
    data = load_audio(tmp_path, window=0.25)
    assert data.input_shape == (2000,) and len(data.items) == 40  # the last 0.05 s are less than a quarter of a window
    splits = {}
    for item in data.items:
        splits.setdefault(item.path.partition("#")[0], set()).add(item.split)
    assert len(splits) == 10 and all(len(of) == 1 for of in splits.values())
    assert {item.path.partition("#")[2] for item in data.items} == {"0.00s", "0.25s", "0.50s", "0.75s"}


@pytest.mark.parametrize(("arguments", "message"), [
    ({"sample_rate": 10}, "sampling rate from 1000 to 192000 Hz, got sample_rate=10"), ({"window": 0}, "window above 0 and up to 600 seconds, got window=0"),
    ({"sample_rate": 8000.0}, "got sample_rate=8000.0")])
def test_numbers_out_of_range_are_one_line(tones, arguments, message):
    with pytest.raises(tfcnn.InputError, match=message):
        load_audio(tones, **arguments)


def test_a_folder_without_sound_is_one_line(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(3):
            (tmp_path / label / f"{number}.wav").write_text(f"text {number} of {label}")
    with pytest.raises(tfcnn.InputError, match=r"expected files of sound \(wav, flac, ogg\), but none of the 6 files can be read"):
        load_audio(tmp_path)


def test_the_spectrogram_in_the_model_is_that_of_a_fourier_transform():
    samples = tone(1000, 0.5)
    spectrogram = audio.spectrogram_of_sound(len(samples), RATE)
    found = spectrogram(samples[None], training=False).numpy()[0]
    frame, hop = audio.frame_of(RATE)
    assert (frame, hop) == (200, 80) and found.shape == (audio.frames_of(len(samples), RATE), audio.MELS)
    padded = np.pad(samples, (0, frame))
    frames = np.stack([padded[start:start + frame] for start in range(0, len(found) * hop, hop)]) * audio.window_of(frame)
    expected = np.log(np.abs(np.fft.rfft(frames, 256)) ** 2 @ audio.mel_bands(256, RATE) + audio.FLOOR)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    centres = 700 * (10 ** (np.linspace(2595 * np.log10(1 + 20 / 700), 2595 * np.log10(1 + 4000 / 700), audio.MELS + 2)[1:-1] / 2595) - 1)
    assert centres[found.mean(axis=0).argmax()] == pytest.approx(1000, rel=0.05)


@pytest.mark.parametrize("rate", [4000, 8000, 16000, 22050, 44100, 48000])
def test_every_mel_band_has_a_tone_and_the_weight_one(rate):
    frame, _ = audio.frame_of(rate)
    bands = audio.mel_bands(1 << (frame - 1).bit_length(), rate)
    np.testing.assert_allclose(bands.sum(axis=0), 1)
    assert (bands >= 0).all()


def test_training_moves_and_masks_and_inference_does_not():
    samples = np.stack([tone(1000, 0.5, seed=row) for row in range(4)])
    keras.utils.set_random_seed(0)
    model = audio.spectrogram_of_sound(4000, RATE)
    calm = model(samples, training=False).numpy()
    np.testing.assert_array_equal(calm, model(samples, training=False).numpy())
    assert (np.abs(model(samples, training=True).numpy() - calm).max(axis=(1, 2)) > 0.1).all()
    set_strength(model, "none")
    np.testing.assert_array_equal(model(samples, training=True).numpy(), calm)
    with pytest.raises(tfcnn.InputError, match="expected an augmentation"):
        set_strength(model, "enormous")


def test_a_clip_that_is_shorter_than_its_window_moves_into_the_silence_and_hardly_loses_its_beginning():
    clips = np.zeros((200, 1000), np.float32)
    clips[:, :200] = 1
    moved = audio.Shift(0.2)(clips, training=True).numpy()
    heard = (moved > 0.5).sum(axis=1)
    assert heard.min() >= 159 and heard.max() == 200 and len(set(heard)) > 5
    assert 150 < (moved > 0.5).argmax(axis=1).max() <= 200
    full = audio.Shift(0.2)(np.ones((200, 1000), np.float32), training=True).numpy()
    assert 799 <= (full > 0.5).sum(axis=1).min() < 850
    np.testing.assert_array_equal(audio.Shift(0.2, 0.1)(np.zeros((2, 1000), np.float32), training=True), 0)


def test_a_clip_is_played_faster_or_slower_with_its_pitch():
    tones = np.sin(2 * np.pi * 0.05 * np.arange(4000, dtype=np.float32))[None].repeat(60, axis=0)
    played = audio.Shift(0.0, 0.1)(tones, training=True).numpy()
    pitch = np.abs(np.fft.rfft(played, axis=1)).argmax(axis=1) / 4000
    assert 0.0445 <= pitch.min() < 0.047 and 0.053 < pitch.max() <= 0.0555


def test_a_clip_becomes_louder_or_quieter_by_up_to_some_decibels():
    louder = audio.Loudness(10.0)(np.ones((100, 5), np.float32), training=True).numpy()
    decibels = 20 * np.log10(louder[:, 0])
    assert -10 <= decibels.min() < -7 and 7 < decibels.max() <= 10
    np.testing.assert_array_equal(louder, louder[:, :1].repeat(5, axis=1))


def test_time_is_hidden_within_what_is_to_be_heard_and_bands_are_anywhere():
    spectrograms = np.random.default_rng(0).normal(-5, 1, (200, 100, 64)).astype(np.float32)
    spectrograms[:, 30:] = np.log(audio.FLOOR)
    layer = audio.MaskStretches()
    hidden = layer(spectrograms, training=True).numpy() != spectrograms
    times, bands = hidden.all(axis=2), hidden.all(axis=1)
    assert not times[:, 30:].any() and 2 <= times.sum(axis=1).max() <= 1 + 30 * audio.WIDEST_TIME * audio.MASKS
    assert 5 <= bands.sum(axis=1).max() <= 1 + 64 * audio.WIDEST_MELS * audio.MASKS
    np.testing.assert_array_equal(hidden, times[:, :, None] | bands[:, None])
    silence = np.full((2, 10, 64), np.log(audio.FLOOR), np.float32)
    np.testing.assert_allclose(layer(silence, training=True), silence, rtol=1e-6)


@pytest.mark.parametrize(("network", "stages"), [("mel_cnn", ["block1", "block2", "block3", "block4"]), ("m5", ["block1", "block2", "block3", "block4"])])
def test_networks_of_sound_take_raw_samples(network, stages):
    model = build_for_audio(ModelConfig(network, "none"), ["a", "b", "c"], (2640,), {"sample_rate": RATE, "samples": 2640})
    assert model.input_shape == (None, 2640) and model.inputs[0].name == "audio" and model.output_shape == (None, 3)
    assert [name for name, _ in tfcnn.models.freeze.stages_of(model)] == stages and model.model_config.backbone == network


def test_a_backbone_of_photos_stands_behind_the_spectrogram_with_its_stages(v3_small_weights):
    model = build_for_audio(ModelConfig("mobilenet_v3_small", str(v3_small_weights), image_size=64), ["a", "b"], (2640,), {"sample_rate": RATE})
    assert model.input_shape == (None, 2640) and [name for name, _ in tfcnn.models.freeze.stages_of(model)][-1] == "top"
    pixels = keras.Model(model.inputs, tfcnn.evaluation.inside.call_of(model, model.get_layer("backbone")).input_tensors[0])
    picture = forward(pixels, np.stack([tone(1000, 0.33), np.zeros(2640, np.float32)]))
    assert picture.shape == (2, 64, 64, 3) and picture.min() > -0.01 and picture[1].max() < 1 < 60 < picture[0].max() < 256
    rows = picture[0, ..., 0].mean(axis=1)
    assert 10 < rows.argmax() < 50  # neither the lowest nor the highest tone


@pytest.fixture(scope="module")
def run(tones, tmp_path_factory):
    """A run of the command line."""
    folder = tmp_path_factory.mktemp("audio") / "run"
    assert main(["train", str(tones), "--kind", "audio", "--epochs", "40", "--export", "tflite_float32", "tflite_float16", "tflite_dynamic",
                 "--output", str(folder)]) == 0
    return tfcnn.load_run(folder)


def test_a_run_of_sound_is_tested_exported_and_reported(run, tones):
    record = run.record
    assert (run.kind, record["model"]["backbone"], record["training"]["augmentation"]) == ("audio", "mel_cnn", "medium")
    assert record["test"]["accuracy"] > 0.8 and [e["agreement"] for e in record["exports"]] == [1, 1, 1]
    assert [e["max_score_difference"] < most for e, most in zip(record["exports"], (1e-4, 1e-2, 5e-2), strict=True)] == [True] * 3
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert page.count("<audio controls") == page.count('src="data:audio/wav;base64,') >= 6 and "spectrogram of 0." in page
    words = " ".join(re.sub(r"<[^>]*>", " ", page.split("<body")[1]).split())
    assert "6 test clips" in words and "photo" not in words
    assert "8000 Hz, one channel" in (run.path / "card.md").read_text(encoding="utf-8")


def test_the_files_of_a_run_of_sound_say_what_they_take(run):
    file = read_tflite(run.path / "exports" / "float32.tflite")
    assert file.input.shape == (1, 2640) and file.input.dtype == "float32" and not file.flex and file.labels == ("high", "low")
    told = file.contract["input"]
    assert (told["kind"], told["sample_rate"], told["shape"]) == ("audio", RATE, [2640]) and "zeros stand behind the end" in told["text"]


@pytest.mark.parametrize(("name", "most"), [("float32", 1e-5), ("float16", 1e-2), ("dynamic", 5e-2)])
def test_every_format_of_sound_answers_silence_and_quiet_tones_as_keras_does(run, name, most):
    """In 16 bits the floor under the logarithm was 0, so that silence gave NaN, and in 8 bits the spectrogram of a quiet tone was noise."""
    clips = np.zeros((3, 2640), np.float32)
    clips[1], clips[2, :1000] = 0.01 * tone(300, 0.33), tone(1500, 0.125)
    answer = load_tflite(str(run.path / "exports" / f"{name}.tflite"), threads=1)
    scores = np.stack([answer(clip[None]) for clip in clips])
    np.testing.assert_allclose(scores, forward(run.load_model(), clips), atol=most)


def test_a_run_of_sound_is_evaluated_again_and_predicts_files(run, tones, capsys):
    assert tfcnn.evaluate(run).to_dict() == tfcnn.evaluate(run, load_run_data(run)).to_dict()
    other = load_for_run(run, tones)
    assert len(other.rows("test")) == 28 and other.facts == run.facts
    capsys.readouterr()
    assert main(["predict", str(run.path), str(tones / "low"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["predictions"]
    assert len(found) == 14 and sum(row["label"] == "low" for row in found) >= 13
    soundfile.write(run.path.parent / "long.wav", tone(300, 2.0, 16000), 16000)
    (run.path.parent / "broken.wav").write_text("nothing")
    good, broken = tfcnn.predict(run, [run.path.parent / "long.wav", run.path.parent / "broken.wav"])
    assert good.label == "low" and "broken.wav: not readable as sound" in broken.error and broken.label is None
    assert "has 2.00 s, the network takes 0.33: the rest is not heard" in capsys.readouterr().err


def test_an_image_size_or_the_vocabulary_says_nothing_of_sound(tones, tmp_path, capsys):
    for flags, message in ((["--tokens", "characters"], "expected no tokens for audio data, got --tokens characters"),
                           (["--backbone", "resnet"], "expected a network for clips, got 'resnet'"),
                           (["--image-size", "64"], "expected no image_size for the network mel_cnn of audio data"),
                           (["--weights", "imagenet"], "expected --weights none or a run for mel_cnn, got 'imagenet'"),
                           (["--export", "tflite_int8"], "expected a format for clips, saved_model, tflite_float32"),
                           (["--kind", "sound"], "expected a kind of data, got --kind 'sound'")):
        assert main(["train", str(tones), "--kind", "audio", "--output", str(tmp_path / "run"), *flags]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert message in line
    assert not (tmp_path / "run").exists()


def test_a_clip_of_which_nothing_is_left_at_another_rate_is_left_out(tones, tmp_path):
    import shutil

    shutil.copytree(tones, tmp_path / "sound")
    soundfile.write(tmp_path / "sound" / "low" / "blink.wav", np.ones(1, np.float32), 44100)
    data = load_audio(tmp_path / "sound", sample_rate=RATE)
    assert [(q.path.rpartition("/")[2], q.reason) for q in data.quarantined] == [("blink.wav", "no samples")]


def test_clips_that_follow_a_run_get_its_rate_and_window(run, tones):
    data = load_audio(tones, like=run, seed=9)
    splits = {item.path: item.split for item in data.items}
    assert data.facts == run.facts and splits == {item.path: item.split for item in tfcnn.data.dataset.items_of(run)}
    with pytest.raises(tfcnn.InputError, match=r"window of the run that is followed, 8000 Hz and 0.33 s, got sample_rate=None, window=0.5"):
        load_audio(tones, like=run, window=0.5)


def test_weights_of_sound_are_of_one_sampling_rate_and_all_are_taken(run):
    facts = run.facts
    model = build_for_audio(ModelConfig("mel_cnn", str(run.path)), ["a", "b"], (facts["samples"],), facts)
    for new, old in zip(model.get_layer("backbone").weights, run.load_model().get_layer("backbone").weights, strict=True):
        np.testing.assert_array_equal(new.numpy(), old.numpy())
    with pytest.raises(tfcnn.InputError, match=r"sampling rate of the run '.*', 8000 Hz, got 16000 Hz; give --sample-rate 8000"):
        build_for_audio(ModelConfig("mel_cnn", str(run.path)), ["a", "b"], (5280,), {"sample_rate": 16000, "samples": 5280})


def test_the_tokens_of_a_vit_are_time_from_left_to_right(tiny_vit):
    from tfcnn.evaluation.stretches import stretches

    model = build_for_audio(ModelConfig(tiny_vit, "none"), ["a", "b"], (4000,), {"sample_rate": RATE})
    heat = stretches(model, np.stack([tone(500, 0.5), tone(900, 0.5)]), np.array([0, 1]))
    assert heat.shape == (2, 4000) and heat.min() >= 0


@pytest.mark.slow
def test_augmentation_of_sound_reaches_the_layers_of_a_training(tones):
    from tfcnn.training.find_rate import find_learning_rate

    data = load_audio(tones)
    model = build_for_audio(ModelConfig("mel_cnn", "none"), data.labels, data.input_shape, data.facts)
    seen = []
    original = vary.set_strength
    vary.set_strength = lambda learner, name: (seen.append(name), original(learner, name))
    try:
        find_learning_rate(model, data, tfcnn.TrainingConfig(augmentation="none"), steps=20)
    finally:
        vary.set_strength = original
    assert seen == ["none"]
