"""What can be typed: the commands, their arguments and their help."""

import argparse
import dataclasses
import re
import typing
from collections.abc import Callable, Mapping

from tfcnn import __version__
from tfcnn.errors import closest
from tfcnn.flags import add_flags, names, numbers, parse_stages
from tfcnn.kinds import COMMON, IMAGE, KINDS

SOURCE = KINDS[IMAGE].source
ANY_SOURCE = "; ".join(f"{name}: {row.source}" for name, row in KINDS.items())
OF_OTHER_KINDS = ("kind", *{option: None for row in KINDS.values() for option in row.options if option not in KINDS[IMAGE].options})  # of `DataConfig`
NOT_OF_A_SEARCH = ("backbone", "weights", "image_size", "folds", "fold", *OF_OTHER_KINDS)  # fields of the configs that have other flags there, or none
OF_AN_AUDIT = ("kind", "split", *dict.fromkeys(option for name, row in KINDS.items() for option in (row.options if name == IMAGE else row.reading)
                                              if option not in COMMON))  # fields of `DataConfig` that concern reading
USAGE = 2  # exit code


# What stands at the end of the help of a command.
EXAMPLES = {
    "demo": ("tfcnn demo --seeds 1",),
    "doctor": ("tfcnn doctor --quick", "tfcnn doctor --backbones mobilenet_v3_small resnet50 --json"),
    "audit": ("tfcnn audit photos/ --strict", "tfcnn audit clips.csv --kind audio --sample-rate 16000"),
    "train": ("tfcnn train photos/ --backbone mobilenet_v3_small --trainable 2 --output saved_models/mine",
              "tfcnn train scans/ --kind volume --size 32,64,64 --export saved_model tflite_float16"),
    "repeat": ("tfcnn repeat saved_models/mine --strategy cpu",),
    "find-rate": ("tfcnn find-rate photos/ --backbone resnet50 --trainable all --steps 60",),
    "search": ("tfcnn search photos/ --backbone mobilenet_v3_small,efficientnet_b0 --time-limit 30m",
               "tfcnn search photos/ --fields dropout learning_rate --trials 20 --fine-tune 3"),
    "evaluate": ("tfcnn evaluate saved_models/mine --split validation", "tfcnn evaluate saved_models/mine other_photos/ --precision 0.9 0.99"),
    "predict": ("tfcnn predict saved_models/mine photo.jpg inbox/ --output answers.csv",),
    "explain": ("tfcnn explain saved_models/mine photo.jpg --method integrated_gradients",),
    "compare": ("tfcnn compare saved_models/mine saved_models/other --output differing.csv",),
    "report": ("tfcnn report saved_models/mine --again",),
    "labels": ("tfcnn labels photos/ --backbone mobilenet_v3_small --folds 10",),
    "export": ("tfcnn export saved_models/mine --format tflite_int8 tflite_float16", "tfcnn export saved_models/mine --format auto --bundle app.zip"),
    "serve": ("tfcnn serve saved_models/mine --port 0",),
    "backbones": ("tfcnn backbones --markdown",),
    "inspect": ("tfcnn inspect resnet50 --image-size 128", "tfcnn inspect saved_models/mine --layers"),
    "cache": ("tfcnn cache --keep 10",),
    "completion": ("tfcnn completion bash > ~/.local/share/bash-completion/completions/tfcnn", "tfcnn completion zsh > ~/.zfunc/_tfcnn"),
}


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, with the nearest command or flag, in place of the whole usage."""

    def parse_known_args(self, args=None, namespace=None):
        """As argparse's, but each command names its own unknown flags: it alone knows those that there are."""
        known, unknown = super().parse_known_args(args, namespace)
        if flag := next((text.split("=")[0] for text in unknown if text.startswith("-")), None):
            flags = [text[2:] for text in self._option_string_actions if text.startswith("--")]
            what = f"a flag of '{self.prog}'" if "command" in known else "a command"
            self._refuse(f"expected {what}, got '{flag}'", closest(flag.strip("-"), flags).replace("mean '", "mean '--"))
        if unknown:
            self.error(f"expected nothing behind the arguments, got '{' '.join(unknown)}'")
        if "command" not in known:
            self.error("expected a command, got none")
        return known, unknown

    def error(self, message: str) -> typing.NoReturn:
        if found := re.match(r"argument COMMAND: invalid choice: '(.*?)' \(choose from", message):
            self._refuse(f"expected a command, got '{found[1]}'", closest(found[1], EXAMPLES))
        message = re.sub(r"argument (\S+): invalid int value: ", r"expected a whole number for \1, got ", message)
        message = re.sub(r"argument (\S+): invalid float value: ", r"expected a number for \1, got ", message)
        self.exit(USAGE, f"tfcnn: {message}; '{self.prog} --help' lists what there is\n")

    def _refuse(self, message: str, hint: str) -> typing.NoReturn:
        if not hint.startswith("did you mean"):
            self.error(message)
        self.exit(USAGE, f"tfcnn: {message}; {hint.split(' (all: ')[0]}\n")


def make_parser(functions: Mapping[str, Callable]) -> argparse.ArgumentParser:
    """The parser of all commands.

    Args:
        functions: by command, what it runs.
    """
    from tfcnn.data.config import DataConfig
    from tfcnn.export.formats import DEFAULT_FORMATS, EXPORTERS
    from tfcnn.models.classifier import BACKBONE, IMAGENET, ModelConfig
    from tfcnn.search.config import SearchConfig
    from tfcnn.training.config import TrainingConfig
    from tfcnn.training.machine import MachineConfig

    formats = f"{', '.join(EXPORTERS)}; or auto, the first that holds from 8 bits up to float32 (default: {' '.join(DEFAULT_FORMATS)})"
    what = "From a pile of photos, series, sounds, texts, volumes, videos or graphs to a convolutional model that provably works on a server or a phone."
    parser = _Parser(prog="tfcnn", description=what)
    parser.add_argument("--version", action="version", version=f"tfcnn {__version__}")
    parser.set_defaults(verbose=False)
    commands = parser.add_subparsers(metavar="COMMAND")

    def add(name, text):
        examples = "\n".join(["examples:" if len(EXAMPLES[name]) > 1 else "example:", *(f"  {line}" for line in EXAMPLES[name])])
        command = commands.add_parser(name, help=text, description=text, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter)
        command.set_defaults(command=functions[name])
        command.add_argument("--json", action="store_true", help="print one JSON object as the last line of standard output")
        command.add_argument("--verbose", action="store_true", help="show what TensorFlow says too")
        return command

    def add_training(command):
        command.add_argument("source", help=ANY_SOURCE)
        for config in (ModelConfig, DataConfig, TrainingConfig, MachineConfig):
            add_flags(command, config)

    demo = add("demo", "the whole flow on digits that ship with the installation, no download")
    demo.add_argument("--output", default="saved_models/demo", help="run folder; an earlier demo in it is replaced (default: %(default)s)")
    demo.add_argument("--seeds", type=int, default=5, help="repetitions of the comparison with training from scratch (default: %(default)s)")

    doctor = add("doctor", "what this machine can train on, which GPU library fails to load, and how fast it is")
    doctor.add_argument("--backbones", nargs="+", metavar="NAME", help="whose speed is measured (default: the six most used)")
    doctor.add_argument("--quick", action="store_true", help="measure nothing, which takes minutes")

    audit = add("audit", "say what is wrong with the data, before training; changes no file")
    audit.add_argument("source", help=ANY_SOURCE)
    add_flags(audit, DataConfig, leave_out=[field.name for field in dataclasses.fields(DataConfig) if field.name not in OF_AN_AUDIT])
    audit.add_argument("--output", help="folder for audit.json and audit.html, a page of pictures (default: saved_models/NAME OF SOURCE-audit)")
    audit.add_argument("--strict", action="store_true", help="exit 1 for warnings too, not only for what would spoil training")
    audit.add_argument("--image-size", type=int, default=224, help="side of the squares that are kept for the training (default: %(default)s)")
    audit.add_argument("--difference", type=float, default=0.05, help="difference of accuracies that the test split should show (default: %(default)s)")

    train = add("train", "train on photos, series, sound, texts, volumes, videos or graphs, evaluate, export and check the files")
    add_training(train)
    train.add_argument("--export", action="extend", nargs="+", default=[], metavar="FORMAT",
                       help=f"{formats}; none exports nothing")
    train.add_argument("--output", help="run folder (default: saved_models/NAME OF SOURCE)")
    train.add_argument("--repeats", type=int, help="with --folds: draw the folds so many times anew, each with the next seed")
    train.add_argument("--overwrite", action="store_true", help="replace the run that the output folder holds")
    train.add_argument("--resume", action="store_true", help="go on with the run that the output folder holds")

    repeat = add("repeat", "train a run once more from its record and say what came out differently")
    repeat.add_argument("run", help="run folder")
    repeat.add_argument("--output", help="run folder of the repetition (default: RUN-repeat)")
    repeat.add_argument("--overwrite", action="store_true", help="replace the run that the output folder holds")
    repeat.add_argument("--resume", action="store_true", help="go on with a repetition that was interrupted")
    add_flags(repeat, MachineConfig, unset=lambda field: "that of the run")

    find_rate = add("find-rate", "a learning-rate range test: where training on these photos breaks, with a picture")
    add_training(find_rate)
    find_rate.add_argument("--steps", type=int, default=100, help="steps at most (default: %(default)s)")
    find_rate.add_argument("--output", help="the picture (default: saved_models/NAME OF SOURCE-rates.png)")

    search = add("search", "look for the hyperparameters that fit these photos best: heads on cached features, then fine-tuning the best few")
    search.add_argument("source", help=SOURCE)
    search.add_argument("--backbone", type=names, default=(BACKBONE,), metavar="NAME[,NAME...]", help="several are compared (default: %(default)s)")
    search.add_argument("--weights", type=names, default=(IMAGENET,), metavar="WEIGHTS[,WEIGHTS...]",
                        help="of all backbones, or one for each; see tfcnn train (default: %(default)s)")
    search.add_argument("--image-size", type=numbers, default=(), metavar="PIXELS[,PIXELS...]", help="several are compared (default: the backbone's own)")
    search.add_argument("--fields", nargs="+", metavar="FIELD",
                        help="search these alone, such as learning_rate and dropout; what has a flag of its own and is given is not searched")
    add_flags(search, SearchConfig)
    for config in (ModelConfig, DataConfig, TrainingConfig):
        add_flags(search, config, unset=lambda field: "searched" if field.metadata else None, leave_out=NOT_OF_A_SEARCH)
    search.add_argument("--devices", type=numbers, help="numbers of the GPUs, each of which has one trial at a time (default: all)")
    search.add_argument("--export", action="extend", nargs="+", default=[], metavar="FORMAT", help="what the best run is exported to; nothing if left out")
    search.add_argument("--output", help="folder of the search; its folder best is the best run (default: saved_models/NAME OF SOURCE-search). "
                                         "An interrupted search goes on with the same command")
    search.add_argument("--overwrite", action="store_true", help="replace the search that the output folder holds")

    evaluate = add("evaluate", "measure a run on one split of its own photos or of another folder")
    evaluate.add_argument("run", help="run folder")
    evaluate.add_argument("source", nargs="?", help=f"{SOURCE}, or what is trained on in the kind of the run (default: the run's own data and split)")
    evaluate.add_argument("--data-dir", metavar="DATA_DIR", help="the folder where tensorflow-datasets keeps its data")
    evaluate.add_argument("--split", default="test", help="train, validation or test (default: %(default)s)")
    evaluate.add_argument("--precision", type=float, nargs="+", metavar="SHARE",
                          help="how often answers are to be right: says from which score they are, and how many photos that refuses (default: 0.9 0.95 0.99)")

    predict = add("predict", "tell what is on photos; files that cannot be read are listed at the end")
    predict.add_argument("run", help="run folder")
    predict.add_argument("files", nargs="+", help="photos, or folders with photos at any depth")
    predict.add_argument("--output", metavar="FILE", help="write all scores to a .csv or .jsonl instead of a line a photo")

    explain = add("explain", "show which parts of photos the answers of a run rest on")
    explain.add_argument("run", help="run folder")
    explain.add_argument("files", nargs="+", help="photos, or folders with photos")
    explain.add_argument("--label", help="the label to explain (default: for each photo the answer)")
    explain.add_argument("--method", default="auto", help="grad_cam, attention_rollout (ViT) or integrated_gradients (default: by the network)")
    explain.add_argument("--layer", help="for grad_cam: a layer of the backbone with feature maps (default: its last)")
    explain.add_argument("--output", help="folder for the pictures (default: RUN/explanations)")

    compare = add("compare", "two runs on the same photos: numbers side by side, McNemar's test, where they differ")
    compare.add_argument("first", help="run folder")
    compare.add_argument("second", help="run folder")
    compare.add_argument("source", nargs="?", help=f"{SOURCE} (default: photos that are in the test split of both)")
    compare.add_argument("--data-dir", help="the folder where tensorflow-datasets keeps its data")
    compare.add_argument("--output", metavar="FILE.csv", help="list the photos that they answer differently")

    report = add("report", "write report.html and card.md of a run again")
    report.add_argument("run", help="run folder")
    report.add_argument("--again", action="store_true", help="evaluate the run anew for it, on its own photos")

    labels = add("labels", "rank photos whose label is probably wrong, and photos that belong to no class; changes no file")
    labels.add_argument("source", help=SOURCE)
    labels.add_argument("--backbone", default=BACKBONE, help="whose features tell the classes apart (default: %(default)s)")
    labels.add_argument("--weights", default=IMAGENET, help="see tfcnn train (default: %(default)s)")
    labels.add_argument("--image-size", type=int, help="side in pixels (default: the backbone's own)")
    labels.add_argument("--folds", type=int, default=5, help="parts that are left out in turn (default: %(default)s)")
    labels.add_argument("--repeats", type=int, default=5, help="how often the parts are drawn anew (default: %(default)s)")
    labels.add_argument("--seed", type=int, default=0, help="of the parts (default: %(default)s)")
    labels.add_argument("--geometry", default="stretch", help="stretch, letterbox or center_crop (default: %(default)s)")
    labels.add_argument("--group-by", help="a column of a CSV whose equal values must stay in one part")
    labels.add_argument("--data-dir", help="the folder where tensorflow-datasets keeps its data")
    labels.add_argument("--output", help="folder for labels.html and labels.csv (default: saved_models/NAME OF SOURCE-labels)")

    export = add("export", "write a run's model in some formats and check each file on the test split")
    listed = "\n".join(f"  {name:<20}{row.text}{f' (extra {row.extra})' if row.extra else ''}" for name, row in EXPORTERS.items())
    export.epilog = f"formats:\n{listed}\n\n{export.epilog}"
    export.add_argument("run", help="run folder")
    export.add_argument("source", nargs="?", help=f"other photos to check the files on, all of them (default: the test photos of the run): {SOURCE}")
    export.add_argument("--data-dir", help="folder of tensorflow-datasets")
    export.add_argument("--format", action="extend", nargs="+", metavar="FORMAT", help=formats)
    export.add_argument("--max-accuracy-drop", type=float, default=0.02, help="how far below Keras a file may be (default: %(default)s)")
    export.add_argument("--max-bytes", type=int, help="with auto: the largest file to settle on")
    export.add_argument("--max-host-latency-ms", type=float, help="with auto: the longest median time a photo, one thread of this computer (not of a phone)")
    export.add_argument("--calibrate-scores", action="store_true", help="temperature scaling: a score of 0.8 is right about 8 times of 10; no answer changes")
    export.add_argument("--score-threshold", type=float, help="for the metadata: MediaPipe Tasks leaves out labels that score less")
    export.add_argument("--encoded", action="store_true", help="the SavedModel gets a signature that takes JPEG and PNG files")
    export.add_argument("--bundle", metavar="FILE.zip", help="also a zip for app developers: .tflite files, golden photos, Kotlin, Swift, a web page")
    export.add_argument("--data-licence", metavar="TEXT", help="licence of the photos, for the card")

    serve = add("serve", "a page on this computer that runs the .tflite files of a run in the browser; nothing else is exposed")
    serve.add_argument("run", help="run folder")
    serve.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: %(default)s)")

    backbones = add("backbones", "list the backbones, their sizes, licences and papers")
    backbones.add_argument("--markdown", action="store_true", help="as the table of README.md, with the names of the stages")

    inspect = add("inspect", "show stages, shapes, parameters, multiply-adds and receptive fields of a backbone or a run")
    inspect.add_argument("network", metavar="NAME|RUN", help="a backbone, for which no weights are loaded, or a run folder")
    inspect.add_argument("--layers", action="store_true", help="every layer under the stages")
    inspect.add_argument("--image-size", type=int, help="side in pixels to look at a backbone at (default: its own)")
    inspect.add_argument("--trainable", type=parse_stages, help="stages to open: none, all, the last n, or a stage to begin at "
                                                           "(default: all of a backbone, those of a run as they are)")

    cache = add("cache", "show and clear decoded photos and features, which can always be computed again")
    cache.add_argument("--clear", action="store_true", help="remove everything that no process is using")
    cache.add_argument("--keep", type=float, metavar="GB", help="remove what was not used for longest until this much is left")

    completion = add("completion", "print a script by which a shell completes commands, flags, names and files")
    completion.add_argument("shell", metavar="SHELL", help="bash, zsh, fish or tcsh")
    return parser
