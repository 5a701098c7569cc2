"""The hint for a misspelt name."""

from tfcnn.errors import InputError, WorkError, closest, is_plain

NAMES = ("mobilenet_v2", "mobilenet_v3_small", "resnet50")


def test_a_misspelt_name_gets_the_nearest_choice_and_all_of_them():
    assert closest("resnet_50", NAMES) == "did you mean 'resnet50'? (all: mobilenet_v2, mobilenet_v3_small, resnet50)"
    assert closest("mobilenet_v3_smal", NAMES).startswith("did you mean 'mobilenet_v3_small'?")


def test_a_name_that_is_near_to_nothing_gets_all_choices():
    assert closest("xyz", NAMES) == "choose one of: mobilenet_v2, mobilenet_v3_small, resnet50"


def test_of_many_choices_only_the_nearest_is_named_or_else_the_first():
    many = [f"network_{number}" for number in range(30)]
    assert closest("netwrk_12", many) == "did you mean 'network_12'?"
    assert closest("xyz", many) == f"choose one of: {', '.join(many[:16])} and 14 more"


def test_choices_and_the_name_need_not_be_text():
    assert closest(7, {1: "a", 2: "b"}) == "choose one of: 1, 2"
    assert closest(320, [224, 32]).startswith("did you mean '32'?")


def test_the_errors_are_caught_as_what_python_calls_them():
    assert issubclass(InputError, ValueError) and issubclass(WorkError, RuntimeError)
    assert not issubclass(WorkError, InputError)


def test_a_line_ends_nowhere_within_or_behind_itself():
    assert is_plain("a label") and is_plain("日本")
    assert not any(is_plain(text) for text in ("", "a\n", "a\nb", "a\r", "a\x85", "\udce4"))
