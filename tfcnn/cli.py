"""The command line: one subcommand a public function, and nothing else."""

import argparse
import contextlib
import dataclasses
import json
import logging
import os
import re
import sys
import time
import typing
import warnings
from pathlib import Path

from tfcnn.errors import InputError, WorkError

SOURCE = "folder of class folders, CSV (path,label[,split]), .npz, or tfds:NAME[/CONFIG][:VERSION]"
EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit code: 0 done, 1 failed or below what was asked, 2 bad usage, 130 interrupted."""
    args = _parser().parse_args(arguments)
    _set_up_output(verbose=args.verbose)
    try:
        return args.command(args)
    except InputError as error:
        return _fail(error, EXIT_USAGE)
    except WorkError as error:
        return _fail(error, EXIT_FAILED)
    except MemoryError:
        return _fail("expected the work to fit into memory, but it did not; give a smaller --batch-size or --image-size", EXIT_FAILED)
    except OSError as error:
        where = f" '{error.filename}'" if error.filename else " a file"
        return _fail(f"expected to read or write{where}, but: {error.strerror or error}; free some space or choose another place", EXIT_FAILED)
    except KeyboardInterrupt:
        return _fail("interrupted" + (f"; go on with --resume, or remove '{args.output}'" if args.command is _train else ""), EXIT_INTERRUPTED)


def _train(args) -> int:
    from tfcnn.data.config import DataConfig
    from tfcnn.export.formats import DEFAULT_FORMATS
    from tfcnn.flow import cross_validate, train_and_export
    from tfcnn.models.classifier import ModelConfig
    from tfcnn.training.config import TrainingConfig

    if "none" in args.export and len(args.export) > 1:
        raise InputError(f"expected 'none' or formats, got --export {' '.join(args.export)}")
    asked = [] if args.export == ["none"] else args.export
    data = _config(DataConfig, args)
    crossed = data.folds is not None and data.fold is None
    args.output = args.output or Path("saved_models") / f"{_name_of(args.source)}{'-folds' if crossed else ''}"
    arguments = {"output": args.output, "model": _config(ModelConfig, args), "training": _config(TrainingConfig, args), "data": data,
                 "strategy": args.strategy, "overwrite": args.overwrite, "resume": args.resume}
    if crossed:
        result = cross_validate(args.source, **arguments, formats=asked)
        _say(_folds_text(result))
        _json(args, result)
        return EXIT_DONE
    formats = [] if args.export == ["none"] else list(dict.fromkeys([*DEFAULT_FORMATS, *asked]))
    run = train_and_export(args.source, **arguments, formats=formats)
    _say(_run_text(run))
    record = run.record
    _json(args, {"run": str(run.path), "labels": run.labels, "test": record["test"], "validation": record["validation"],
                 "seconds": record["seconds"]["total"], "stages": record["seconds"], "exports": record.get("exports", []),
                 "quarantined": record["data"]["quarantined"]})
    return _verdict(record.get("exports", []), asked)


def _evaluate(args) -> int:
    from tfcnn.data.images import load_images
    from tfcnn.evaluation.evaluate import evaluate
    from tfcnn.record import load_run

    start = time.perf_counter()
    run = load_run(args.run)
    data = load_images(args.source, image_size=run.record["input_shape"][0], geometry=run.record["geometry"], split=None,
                       data_dir=args.data_dir) if args.source else None
    report = evaluate(run, data, split=args.split)
    left_out = data.quarantined if data else ()
    _say("\n".join([str(report), *_left_out_text([q._asdict() for q in left_out])]))
    _json(args, {"run": str(run.path), "labels": run.labels, "validation": run.record.get("validation"), args.split: report.to_dict(),
                 "quarantined": [q._asdict() for q in left_out],
                 "seconds": round(time.perf_counter() - start, 2)})
    return EXIT_DONE


def _audit(args) -> int:
    from tfcnn.data.audit import audit

    output = Path(args.output or Path("saved_models") / f"{_name_of(args.source)}-audit")
    result = audit(args.source, output=output, image_size=args.image_size, geometry=args.geometry, split=tuple(args.split), difference=args.difference,
                   group_by=args.group_by, data_dir=args.data_dir)
    _say(f"{result}\n\npictures: {output / 'audit.html'}")
    _json(args, {key: value for key, value in result.to_dict().items() if key != "files"})
    return EXIT_FAILED if result.problems or (args.strict and result.warnings) else EXIT_DONE


def _cache(args) -> int:
    from tfcnn.data.store import cache_bound, cache_folder, list_cache, trim_cache

    if args.keep is not None and not 0 <= args.keep <= 1e9:
        raise InputError(f"expected gigabytes from 0 up, got --keep {args.keep}")
    freed = trim_cache(0 if args.clear else int(args.keep * 1e9)) if args.clear or args.keep is not None else 0
    entries = list_cache()
    _say(_cache_text(entries, freed, cache_folder(), cache_bound()))
    _json(args, {"folder": str(cache_folder()), "bound": cache_bound(), "freed": freed, "bytes": sum(e.bytes for e in entries),
                 "stores": [e._asdict() for e in entries]})
    return EXIT_DONE


def _predict(args) -> int:
    from tfcnn.evaluation.evaluate import predict

    predictions = predict(args.run, args.files)
    for p in predictions:
        _say(f"{p.name}  {p.label}  {p.score:.3f}")
    _json(args, {"predictions": [p._asdict() for p in predictions]})
    return EXIT_DONE


def _export(args) -> int:
    from tfcnn.export.formats import DEFAULT_FORMATS
    from tfcnn.export.gate import export

    exports = [dataclasses.asdict(e) for e in export(args.run, formats=args.format or DEFAULT_FORMATS, max_accuracy_drop=args.max_accuracy_drop)]
    _say(_exports_text(exports))
    _json(args, {"run": str(args.run), "exports": exports})
    return _verdict(exports, [e["format"] for e in exports])


def _backbones(args) -> int:
    from tfcnn.models.backbones import BACKBONES

    for name, row in BACKBONES.items():
        _say(f"{name:<20} {row.image_size:>4} px  stages {', '.join(stage for stage, _ in row.stages)}\n{'':<20} {row.paper}; {row.licence}")
    _json(args, {"backbones": {name: {**row._asdict(), "stages": [s for s, _ in row.stages]} for name, row in BACKBONES.items()}})
    return EXIT_DONE


def _demo(args) -> int:
    from tfcnn.demo import run_demo
    from tfcnn.export.formats import DEFAULT_FORMATS

    result = run_demo(args.output, seeds=args.seeds)
    _say(result.pop("text") + _exports_text(result["exports"]))
    _say(f"\nreport: {Path(result['run']) / 'report.html'}   ({result['seconds']:.0f} s)")
    _json(args, result)
    return _verdict(result["exports"], list(DEFAULT_FORMATS))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> typing.NoReturn:
        """One line instead of the whole usage."""
        self.exit(EXIT_USAGE, f"tfcnn: {message}; '{self.prog} --help' lists what there is\n")


def _parser() -> argparse.ArgumentParser:
    from tfcnn.data.config import DataConfig
    from tfcnn.models.classifier import ModelConfig
    from tfcnn.training.config import TrainingConfig

    parser = _Parser(prog="tfcnn", description="From a folder of photos to a convolutional model that provably works on a server or a phone.")
    parser.set_defaults(verbose=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name, function, text):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=function)
        command.add_argument("--json", action="store_true", help="print one JSON object as the last line of standard output")
        command.add_argument("--verbose", action="store_true", help="show what TensorFlow says too")
        return command

    demo = add("demo", _demo, "the whole flow on digits that ship with the installation, no download")
    demo.add_argument("--output", default="saved_models/demo", help="run folder; an earlier demo in it is replaced (default: %(default)s)")
    demo.add_argument("--seeds", type=int, default=5, help="repetitions of the comparison with training from scratch (default: %(default)s)")

    audit = add("audit", _audit, "say what is wrong with the data, before training; changes no file")
    audit.add_argument("source", help=SOURCE)
    audit.add_argument("--output", help="folder for audit.json and audit.html, a page of pictures (default: saved_models/NAME OF SOURCE-audit)")
    audit.add_argument("--strict", action="store_true", help="exit 1 for warnings too, not only for what would spoil training")
    audit.add_argument("--image-size", type=int, default=224, help="side of the squares that are kept for the training (default: %(default)s)")
    audit.add_argument("--geometry", default="stretch", help="stretch, letterbox or center_crop (default: %(default)s)")
    audit.add_argument("--difference", type=float, default=0.05, help="difference of accuracies that the test split should show (default: %(default)s)")
    _add_split(audit)
    audit.add_argument("--group-by", help="a column of a CSV whose equal values must stay in one split")
    audit.add_argument("--data-dir", help="the folder where tensorflow-datasets keeps its data")

    train = add("train", _train, "train on photos, evaluate, export and check the files")
    train.add_argument("source", help=SOURCE)
    _add_flags(train, ModelConfig)
    _add_flags(train, DataConfig)
    _add_flags(train, TrainingConfig)
    train.add_argument("--strategy", default="auto", help="auto, cpu, one_device or mirrored (default: %(default)s)")
    train.add_argument("--export", action="extend", nargs="+", default=[], metavar="FORMAT",
                       help="further formats beside saved_model, tflite_float32 and tflite_float16: tflite_dynamic, tflite_int8; none exports nothing")
    train.add_argument("--output", help="run folder (default: saved_models/NAME OF SOURCE)")
    train.add_argument("--overwrite", action="store_true", help="replace the run that the output folder holds")
    train.add_argument("--resume", action="store_true", help="go on with the run that the output folder holds")

    evaluate = add("evaluate", _evaluate, "measure a run on one split of its own photos or of another folder")
    evaluate.add_argument("run", help="run folder")
    evaluate.add_argument("source", nargs="?", help=f"{SOURCE} (default: the run's own photos and split)")
    evaluate.add_argument("--data-dir", metavar="DATA_DIR", help="the folder where tensorflow-datasets keeps its data")
    evaluate.add_argument("--split", default="test", help="train, validation or test (default: %(default)s)")

    predict = add("predict", _predict, "tell what is on some photos")
    predict.add_argument("run", help="run folder")
    predict.add_argument("files", nargs="+", help="photos")

    export = add("export", _export, "write a run's model in some formats and check each file on the test split")
    export.add_argument("run", help="run folder")
    export.add_argument("--format", action="extend", nargs="+", metavar="FORMAT",
                        help="saved_model, tflite_float32, tflite_float16, tflite_dynamic, tflite_int8 (default: the first three)")
    export.add_argument("--max-accuracy-drop", type=float, default=0.02, help="how far below Keras a file may be (default: %(default)s)")

    add("backbones", _backbones, "list the backbones, their stages and papers")

    cache = add("cache", _cache, "show and clear decoded photos and features, which can always be computed again")
    cache.add_argument("--clear", action="store_true", help="remove everything that no process is using")
    cache.add_argument("--keep", type=float, metavar="GB", help="remove what was not used for longest until this much is left")
    return parser


def _add_flags(command, config) -> None:
    """One flag for every field of a config; its help is the field's line in the docstring."""
    texts = dict(re.findall(r"^        (\w+): (.+?)(?=\n        \w+: |\n    \Z|\Z)", config.__doc__, re.MULTILINE | re.DOTALL))
    types = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        default = ",".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
        if field.name == "split":
            _add_split(command)
            continue
        if types[field.name] is bool:
            command.add_argument(f"--{field.name}", action=argparse.BooleanOptionalAction, default=field.default, help=" ".join(texts[field.name].split()))
            continue
        if field.name == "learning_rates":
            command.add_argument("--learning-rates", type=_rate, nargs="+", metavar="STAGE=RATE", help=" ".join(texts[field.name].split()))
            continue
        shown = "" if default in (None, "") else f" (default: {'all' if default is True else default})"
        command.add_argument(f"--{field.name.replace('_', '-')}", type=_parser_of(field.name, types[field.name]), default=field.default,
                             metavar=field.name.upper(), help=(" ".join(texts[field.name].split()) + shown).replace("%", "%%"))


def _add_split(command) -> None:
    command.add_argument("--split", type=float, nargs=3, default=[0.7, 0.1, 0.2], metavar=("TRAIN", "VALIDATION", "TEST"),
                         help="fractions of training, validation and test; a source with splits of its own keeps them (default: 0.7 0.1 0.2)")


def _parser_of(name: str, kind):
    if name == "trainable":
        return _stages
    if name == "hidden":
        return _units
    if kind is int or kind == int | None:
        return int
    return float if kind is float else str


def _stages(text: str) -> bool | int | str:
    return {"none": False, "all": True}.get(text, int(text) if text.isdigit() else text)


def _units(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(units) for units in text.split(",") if units)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected whole numbers with commas between them, got '{text}'") from None


def _rate(text: str) -> tuple[str, float]:
    stage, _, rate = text.partition("=")
    try:
        return stage, float(rate)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected STAGE=RATE such as head=0.001, got '{text}'") from None


def _config(kind, args):
    values = {field.name: getattr(args, field.name) for field in dataclasses.fields(kind)}
    if values.get("learning_rates"):
        values["learning_rates"] = dict(values["learning_rates"])
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _name_of(source: str) -> str:
    """What to call a run or an audit of a source: the name of its folder, file or data set."""
    if source.startswith("tfds:"):
        return re.sub(r"\W+", "-", source[5:])
    path = Path(source).resolve()
    return path.stem if path.suffix.lower() in (".csv", ".npz") else path.name


def _folds_text(result: dict) -> str:
    low, high = result["interval"]
    lines = [f"fold {fold}: accuracy {accuracy:.3f}  {run}" for fold, (accuracy, run) in enumerate(zip(result["accuracies"], result["runs"], strict=True))]
    return "\n".join(["", *lines, "", f"{result['folds']} folds: accuracy {result['mean']:.3f} ± {result['sd']:.3f} (mean and standard deviation)",
                      f"all {result['n']} photos, each tested once: {result['accuracy']:.3f} [{low:.3f}, {high:.3f}]"])


def _cache_text(entries, freed: int, folder, bound: int) -> str:
    width = max((len(e.name) for e in entries), default=0)
    lines = [f"{e.name:<{width}} {e.rows:>9} rows {e.bytes / 1e6:>10.1f} MB  used {time.strftime('%Y-%m-%d %H:%M', time.localtime(e.used))}"
             f"{'  in use' if e.in_use else ''}" for e in entries]
    total = sum(e.bytes for e in entries)
    lines.append(f"{folder}: {total / 1e6:.1f} MB of at most {bound / 1e9:g} GB (TFCNN_CACHE_GB)")
    return "\n".join([*lines, f"{freed / 1e6:.1f} MB were removed"] if freed else lines)


def _run_text(run) -> str:
    from tfcnn.evaluation.evaluate import Report

    record = run.record
    test = {**record["test"], "interval": tuple(record["test"]["interval"])}
    lines = ["", *(f"{name:<34} {taken:7.1f} s" for name, taken in record["seconds"].items()), "", str(Report(**test))]
    left_out = record["data"]["quarantined"]
    lines += _left_out_text(left_out, "in run.json")
    if record.get("exports"):
        lines += ["", _exports_text(record["exports"])]
    return "\n".join([*lines, "", f"report: {run.path / 'report.html'}"])


def _left_out_text(left_out: list[dict], rest: str = "in the line of --json") -> list[str]:
    if not left_out:
        return []
    lines = ["", f"{len(left_out)} of the files were left out:", *(f"  {q['path']}: {q['reason']}" for q in left_out[:5])]
    return [*lines, f"  ... the rest is {rest}"] if len(left_out) > 5 else lines


def _exports_text(exports: list[dict]) -> str:
    lines = [f"{'format':<15} {'MB':>7} {'accuracy':>9} {'agreement':>10} {'max diff':>9} {'ms/photo':>9}  file (ms: one thread of this computer)"]
    for e in exports:
        difference = "-" if e["max_score_difference"] is None else f"{e['max_score_difference']:.1e}"
        lines.append(f"{e['format']:<15} {e['bytes'] / 1e6:>7.2f} {e['accuracy']:>9.3f} {e['agreement']:>10.3f} {difference:>9} "
                     f"{e['milliseconds']:>9.1f}  {e['path']}")
        if not e["accepted"]:
            lines.append(f"{'':<15} REJECTED: {e['reason']}")
    return "\n".join(lines)


def _verdict(exports: list[dict], asked: list[str]) -> int:
    rejected = [e["format"] for e in exports if not e["accepted"]]
    return EXIT_FAILED if set(rejected) & set(asked) else EXIT_DONE


def _set_up_output(*, verbose: bool) -> None:
    """Stages and warnings go to standard error; TensorFlow's C++ chatter goes nowhere unless it is asked for."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "3")
    if not verbose:
        _silence_native_code()
        warnings.simplefilter("ignore")
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        logging.getLogger("absl").setLevel(logging.ERROR)
    handler = logging.Handler()
    handler.emit = lambda record: print(record.getMessage(), file=sys.stderr)  # looked up each time: rich puts its own there
    logger = logging.getLogger("tfcnn")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _silence_native_code() -> None:
    """C++ writes to file descriptor 2 by its number: Python gets a copy of the descriptor, C++ keeps a closed door."""
    with contextlib.suppress(OSError, ValueError):  # where standard error is captured or closed, there is nothing to do
        if sys.stderr.fileno() == 2:
            sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _fail(message, code: int) -> int:
    print(f"tfcnn: {' '.join(str(message).split())}", file=sys.stderr)
    return code


def _say(text: str) -> None:
    print(text)


def _json(args, values: dict) -> None:
    if args.json:
        print(json.dumps(values, ensure_ascii=False))
