"""Texts: what is read, how they become numbers, what is refused, and a run from a table to a .tflite of numbers of words."""

import csv
import json
import unicodedata

import numpy as np
import pytest

import tfcnn
from tfcnn.cli import main
from tfcnn.data.run_data import load_for_run
from tfcnn.data.text import UNKNOWN, encode, load_text, tokens_of
from tfcnn.evaluation.stretches import without_each
from tfcnn.export.read_tflite import read_tflite
from tfcnn.models.build import build_for_text, read_vectors
from tfcnn.models.classifier import ModelConfig

GOOD = ("a warm and lovely film", "truly great , i laughed", "lovely work , well played")
BAD = ("a cold and dreadful film", "truly awful , i slept", "dreadful work , badly played")


def reviews(count=30):
    """Texts, each another, and their labels."""
    texts = [f"{one} number {number}" for number in range(count // 6) for one in (*GOOD, *BAD)]
    return texts, ["good", "good", "good", "bad", "bad", "bad"] * (count // 6)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A CSV of 60 reviews."""
    path = tmp_path_factory.mktemp("text") / "reviews.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *zip(*reviews(60), strict=True)])
    return path


@pytest.mark.parametrize(("text", "words"), [
    ("It's GREAT!", ["it", "'", "s", "great", "!"]), ("Straße  \n 12.5%", ["strasse", "12", ".", "5", "%"]), ("ｆｕｌｌ ﬁne", ["full", "fine"]),
    ("Привет, мир", ["привет", ",", "мир"]), ("我喜欢", ["我喜欢"]), ("مرحبا بك", ["مرحبا", "بك"]), ("naïve 👍", ["naïve", "👍"]), ("   ", []),
    ("हिन्दी भाषा", ["हिन्दी", "भाषा"]), ("Μαΐου", ["μαΐου"]), ("İstanbul is", ["i̇stanbul", "is"]), ("half \ud800 end", ["half", "?", "end"])])
def test_words_are_told_apart_in_any_script(text, words):
    found = load_text(([text, "a", "b"] * 3, ["x"] * 9), split=None, facts={"tokens": "words", "length": 9, "vocabulary": ["", ""]}) if text.strip() else None
    text = found.texts[found.items[0].sha256] if found else text  # as it was read
    assert [unicodedata.normalize("NFC", word) for word in tokens_of(text, "words")] == [unicodedata.normalize("NFC", word) for word in words]


def test_characters_are_told_apart_and_white_space_is_one_blank():
    assert tokens_of("Ab \n\t c", "characters") == ["a", "b", " ", "c"] and tokens_of("我喜", "characters") == ["我", "喜"]


@pytest.mark.parametrize("form", ["csv", "folder", "pair"])
def test_every_form_gives_the_same_texts_and_labels(table, tmp_path, form):
    source = {"csv": table, "folder": tmp_path, "pair": reviews(60)}[form]
    if form == "folder":
        for number, (text, label) in enumerate(zip(*reviews(60), strict=True)):
            (tmp_path / label).mkdir(exist_ok=True)
            (tmp_path / label / f"{number}.txt").write_text(text)
    data = load_text(source)
    assert data.kind == "text" and data.labels == ("bad", "good") and data.inputs.dtype == np.int32 and data.input_shape == (data.facts["length"],)
    assert sorted(data.texts[item.sha256] for item in data.items) == sorted(reviews(60)[0])
    assert {split: len(data.rows(split)) for split in ("train", "validation", "test")} == {"train": 42, "validation": 6, "test": 12}


def test_the_vocabulary_is_that_of_the_training_texts_alone():
    texts, labels = reviews(60)
    data = load_text((texts, labels))
    words = data.facts["vocabulary"]
    train = [data.texts[data.items[row].sha256] for row in data.rows("train")]
    assert words[:2] == ["[padding]", "[unknown]"] and set(words[2:]) == {w for w in " ".join(train).split() if " ".join(train).split().count(w) > 1}
    counts = [" ".join(train).split().count(word) for word in words[2:]]
    assert counts == sorted(counts, reverse=True)
    np.testing.assert_array_equal(encode(["lovely xyz film"], data.facts)[0, :4], [words.index("lovely"), UNKNOWN, words.index("film"), 0])
    assert len(load_text((texts, labels), vocabulary=10).facts["vocabulary"]) == 12
    short = load_text((texts, labels), length=3)
    assert short.input_shape == (3,) and (short.inputs > 0).all()


def test_empty_and_equal_texts_are_left_out_or_stay_together(caplog):
    texts, labels = reviews(60)
    data = load_text(([*texts, "", " \n", texts[0], texts[1]], [*labels, "good", "bad", "good", "bad"]))
    assert sorted(q.reason.split(":")[0] for q in data.quarantined) == ["contradiction", "contradiction", "no text", "no text"]
    copies = {item.split for item in data.items if data.texts[item.sha256] == texts[0]}
    assert len([item for item in data.items if data.texts[item.sha256] == texts[0]]) == 2 and len(copies) == 1


def test_texts_of_another_language_are_said(caplog):
    texts, labels = reviews(60)
    data = load_text((texts, labels))
    load_text((["это совсем другой язык", "und noch eine andere sprache"] * 2, ["good", "bad"] * 2), split=None, facts=data.facts)
    assert "100 % of the tokens are not in the vocabulary" in caplog.text and "--tokens characters" in caplog.text


@pytest.mark.parametrize(("source", "arguments", "message"), [
    ((["a"], ["x", "y"]), {}, "expected one label a text, got 1 texts and 2 labels"), ("missing.csv", {}, "there is no '.*missing.csv'"),
    (reviews(), {"tokens": "letters"}, "expected words or characters, got tokens='letters'"),
    (reviews(), {"vocabulary": 1}, "whole number from 10 up, got vocabulary=1"),
    (reviews(), {"length": 0}, "whole number from 1 up, got length=0"), (reviews(), {"split": None}, "expected a split, from whose training texts"),
    ((["a", "b"], ["x", "y\nz"]), {}, "expected a label of one line in row 1"), (5, {}, "expected texts, got int"),
    ((["a b"] * 9, ["x"] * 9), {}, "expected texts of at least two classes")])
def test_what_is_no_text_is_one_line(source, arguments, message):
    with pytest.raises(tfcnn.InputError, match=message):
        load_text(source, **arguments)


def test_a_table_without_its_columns_is_one_line(tmp_path):
    (tmp_path / "a.csv").write_text("path,label\nx,y\n")
    with pytest.raises(tfcnn.InputError, match=r"expected the columns text and label in '.*a.csv', found no text in row 2 \(path, label\)"):
        load_text(tmp_path / "a.csv")


def test_vectors_of_words_come_from_a_file(tmp_path):
    (tmp_path / "vectors.txt").write_text("3 2\nLovely 1 2\nfilm 3 4\nunused 5 6\n")
    vectors = read_vectors(tmp_path / "vectors.txt", ["[padding]", "[unknown]", "film", "lovely", "great"])
    np.testing.assert_array_equal(vectors[[0, 2, 3]], [[0, 0], [3, 4], [1, 2]])
    assert vectors.shape == (5, 2) and vectors[1].any() and vectors[4].any()
    (tmp_path / "blanks.txt").write_text("film 3 4\n. . . 5 6\nat name@domain 7 8\nlovely 1 2\n")  # as some of GloVe's files have them
    np.testing.assert_array_equal(read_vectors(tmp_path / "blanks.txt", ["[padding]", "[unknown]", "film", "lovely"])[2:], [[3, 4], [1, 2]])
    facts = {"vocabulary": ["[padding]", "[unknown]", "film", "lovely"]}
    model = build_for_text(ModelConfig("kim_cnn", str(tmp_path / "vectors.txt")), ["a", "b"], (9,), facts)
    np.testing.assert_array_equal(model.get_layer("backbone").get_layer("words").get_weights()[0][2:], [[3, 4], [1, 2]])
    for content, message in (("film 1\n", "a word and its numbers in line 1|found none"), ("film 1 2\nlovely 1\n", "expected a word and 2 numbers in line 2"),
                             ("film a b\n", "expected numbers in line 1"), ("film nan 2\n", "in line 1 of .*, got NaN or infinity; remove the line"),
                             ("xx 1 2\n", "expected vectors of words of the vocabulary")):
        (tmp_path / "bad.txt").write_text(content)
        with pytest.raises(tfcnn.InputError, match=message):
            read_vectors(tmp_path / "bad.txt", ["[padding]", "[unknown]", "film", "lovely"])


def test_what_stands_behind_the_end_of_a_text_changes_nothing():
    import keras

    keras.utils.set_random_seed(0)
    short, long = (build_for_text(ModelConfig("kim_cnn", "none"), ["a", "b"], (length,), {"vocabulary": [str(n) for n in range(30)]}) for length in (12, 40))
    long.set_weights(short.get_weights())
    ids = np.array([[5, 6, 7, 8, 9, 10, 11, 0, 0, 0, 0, 0]], np.int32)
    np.testing.assert_allclose(short(ids), long(np.pad(ids, ((0, 0), (0, 28)))), atol=1e-6)


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    """A run of the command line."""
    folder = tmp_path_factory.mktemp("texts") / "run"
    arguments = ["train", str(table), "--kind", "text", "--epochs", "40", "--export", "tflite_float32", "tflite_dynamic", "--output", str(folder)]
    assert main(arguments) == 0
    return tfcnn.load_run(folder)


def test_a_run_of_texts_is_tested_exported_and_reported(run):
    record = run.record
    assert (run.kind, record["model"]["backbone"], record["model"]["stages"]) == ("text", "kim_cnn", ["words", "width3", "width4", "width5"])
    assert record["test"]["accuracy"] == 1 and all(e["accepted"] and e["agreement"] == 1 for e in record["exports"])
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert '<mark class="for"' in page and "12 test texts" in page and "lovely" in page
    assert "vocabulary" not in record["data"]["facts"] and run.facts["vocabulary"][1] == "[unknown]"


def test_the_word_that_decides_is_marked(run):
    ids = encode(["a warm and lovely film number 3"], run.facts)
    (heat,) = without_each(run.load_model(), ids, np.array([run.labels.index("good")]))
    assert heat[:7].argmax() in (1, 3) and heat.max() == 1 and not heat[7:].any()  # warm or lovely


def test_a_file_takes_numbers_and_brings_the_vocabulary(run):
    import zipfile

    path = run.path / "exports" / "float32.tflite"
    file = read_tflite(path)
    assert file.input.shape == (1, run.facts["length"]) and file.input.dtype == "int32" and not file.flex
    assert file.contract["input"]["tokens"] == "words" and "its line in vocabulary.txt, counted from 0" in file.contract["input"]["text"]
    with zipfile.ZipFile(path) as archive:
        assert archive.read("vocabulary.txt").decode().split("\n")[:-1] == run.facts["vocabulary"]


def test_a_run_of_texts_predicts_texts_and_files(run, tmp_path, capsys):
    (tmp_path / "a.txt").write_text("lovely , truly great")
    (tmp_path / "empty.txt").write_text(" ")
    found = tfcnn.predict(run, ["a dreadful film", tmp_path / "a.txt", "", tmp_path / "empty.txt"])
    assert [p.label for p in found] == ["bad", "good", None, None] and "no text" in found[2].error and "empty.txt" in found[3].error
    capsys.readouterr()
    assert main(["predict", str(run.path), "a lovely film", str(tmp_path / "a.txt"), "--json"]) == 0
    assert [row["label"] for row in json.loads(capsys.readouterr().out.splitlines()[-1])["predictions"]] == ["good", "good"]
    with pytest.raises(tfcnn.InputError, match=r"expected a list of texts, got inputs='lovely'"):
        tfcnn.predict(run, "lovely")


def test_the_vocabulary_of_another_run_is_refused(run, table, tmp_path):
    import shutil

    shutil.copytree(run.path, tmp_path / "run")
    other = tfcnn.load_run(tmp_path / "run")
    assert load_for_run(other, table).inputs.shape == (60, run.facts["length"])
    (other.path / "vocabulary.txt").write_text("[padding]\n[unknown]\nelse\n")
    for work in (lambda: load_for_run(other, table), lambda: tfcnn.predict(other, ["a film"]), lambda: tfcnn.export(other, formats=["tflite_float32"])):
        with pytest.raises(tfcnn.InputError, match="expected the vocabulary that the run was trained with"):
            work()
    (other.path / "vocabulary.txt").unlink()
    with pytest.raises(tfcnn.InputError, match=r"expected the vocabulary of the run in '.*vocabulary.txt', but it is gone"):
        tfcnn.predict(other, ["a film"])


def test_labels_that_the_run_does_not_know_are_named_as_of_texts(run):
    with pytest.raises(tfcnn.InputError, match=r"got so-so besides; rename or leave out their texts"):
        load_for_run(run, (["a film"], ["so-so"]))


def test_what_is_no_text_in_a_folder_is_left_out_with_its_reason(tmp_path, caplog):
    for label in ("x", "y"):
        (tmp_path / label).mkdir()
        for number in range(5):
            (tmp_path / label / f"{number}.txt").write_text(f"text {number} of {label}")
    (tmp_path / "x" / "pic.png").write_bytes(b"\x89PNG")
    (tmp_path / "x" / "zero.txt").write_bytes(b"a\0b")
    (tmp_path / "x" / "old.txt").write_bytes("Größe".encode("latin-1"))
    data = load_text(tmp_path)
    assert {q.path.rpartition("/")[2]: q.reason for q in data.quarantined} == {"pic.png": "not a .txt file", "zero.txt": "not a text: it holds the byte 0"}
    assert "Größe" in data.texts.values() and "1 of the 13 files are not UTF-8: they are read as Latin-1" in caplog.text


def test_what_a_frame_lacks_is_no_word_nan():
    pandas = pytest.importorskip("pandas")
    texts, labels = reviews(60)
    frame = pandas.DataFrame({"text": [*texts, None], "label": [*labels, "good"], "group": [None] * 61})
    data = load_text(frame)
    assert len(data.items) == 60 and [q.reason for q in data.quarantined] == ["no text"]
    frame.loc[3, "label"] = None
    with pytest.raises(tfcnn.InputError, match="expected a label of one line in row 3 of 'frame', got ''"):
        load_text(frame)


def test_a_run_gives_its_words_to_another_vocabulary(run, tmp_path):
    texts, labels = reviews(60)
    data = load_text(([f"brandnew {text}" for text in texts], labels), seed=3)
    assert data.facts["vocabulary"] != run.facts["vocabulary"]
    model = build_for_text(ModelConfig("kim_cnn", str(run.path)), data.labels, data.input_shape, data.facts)
    new, old = (part.get_layer("backbone").get_layer("words").get_weights()[0] for part in (model, run.load_model()))
    for word in ("lovely", "dreadful"):
        np.testing.assert_array_equal(new[data.facts["vocabulary"].index(word)], old[run.facts["vocabulary"].index(word)])
    assert new[data.facts["vocabulary"].index("brandnew")].std() > 0
    characters = load_text((texts, labels), tokens="characters")
    with pytest.raises(tfcnn.InputError, match="expected a run of characters as --weights, got one of words"):
        build_for_text(ModelConfig("kim_cnn", str(run.path)), data.labels, characters.input_shape, characters.facts)


def test_a_name_of_a_file_that_is_not_there_is_no_text(run, table, capsys):
    (table.parent / "page.html").write_text("text")
    for given, message in (("missing.txt", "looks like the name of a file, and there is none"), ("inbox/review", "looks like the name of a file"),
                           (str(table.parent / "page.html"), "expected .txt files with a text each, or a CSV with a column text")):
        assert main(["predict", str(run.path), given]) == 2
        assert message in capsys.readouterr().err
    assert main(["predict", str(run.path), str(table), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["predictions"]) == 60
    assert main(["predict", str(run.path), "это другой язык"]) == 0
    assert "'это другой язык': 3 of 3 words are not in the vocabulary" in capsys.readouterr().err
    assert main(["predict", str(run.path), "the photo is lovely"]) == 0
    assert capsys.readouterr().out.startswith("the photo is lovely  good")


def test_a_word_that_grows_when_it_is_folded_keeps_its_mark():
    from tfcnn.evaluation.draw import draw_text

    facts = {"tokens": "words", "length": 4, "vocabulary": ["", "", "i̇stanbul", "is", "bad"]}
    drawn = draw_text(encode(["İstanbul is bad"], facts)[0], np.array([0, 0, 1, 0], np.float32), facts, "İstanbul is bad", large=True)
    assert '>bad</mark>' in drawn and drawn.count("<mark") == 1
