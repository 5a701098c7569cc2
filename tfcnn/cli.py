"""The command line: one subcommand a function of the library, and nothing else."""

import dataclasses
import os
import re
import time
import typing
from pathlib import Path

from tfcnn.console import ended_by_sigterm, fail, say, say_json, set_up_output, speak_of, with_flags
from tfcnn.errors import InputError, WorkError, first_line
from tfcnn.flags import config_of, given_of
from tfcnn.kinds import IMAGE, KINDS
from tfcnn.parser import OF_AN_AUDIT, make_parser
from tfcnn.texts import cache_text, exports_text, folds_text, left_out_text, run_text

EXPORT_FLAGS = ("max_accuracy_drop", "max_bytes", "max_host_latency_ms", "calibrate_scores", "score_threshold", "encoded", "bundle",
                "data_licence")  # arguments of `export`
OUT_OF_MEMORY = "expected the work to fit into memory, but it did not; give a smaller --batch-size or --image-size"
EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit code: 0 done, 1 failed or below what was asked, 2 bad usage, 130 interrupted."""
    args = make_parser(COMMANDS).parse_args(arguments)
    set_up_output(verbose=args.verbose)
    speak_of(IMAGE)
    try:
        with ended_by_sigterm():
            return args.command(args)
    except InputError as error:
        return fail(with_flags(str(error), args), EXIT_USAGE)
    except WorkError as error:
        return fail(error, EXIT_FAILED)
    except MemoryError:
        return fail(OUT_OF_MEMORY, EXIT_FAILED)
    except OSError as error:
        where = f" '{error.filename}'" if error.filename else " a file"
        return fail(f"expected to read or write{where}, but: {error.strerror or error}; free some space or choose another place", EXIT_FAILED)
    except Exception as error:
        if args.verbose or not type(error).__module__.startswith("tensorflow"):
            raise
        kind = type(error).__name__
        text = f"expected TensorFlow to do its work, but it ended with {kind}: {first_line(error)}; --verbose shows all of it"
        return fail(OUT_OF_MEMORY if kind == "ResourceExhaustedError" else text, EXIT_FAILED)
    except KeyboardInterrupt:
        on = {_train: f"; go on with --resume, or remove '{getattr(args, 'output', None)}'", _search: "; give the same command again to go on"}
        return fail(f"interrupted{on.get(args.command, '')}", EXIT_INTERRUPTED)


def _train(args) -> int:
    from tfcnn.cross_validation import cross_validate
    from tfcnn.data.config import DataConfig
    from tfcnn.export.formats import default_formats
    from tfcnn.flow import train_and_export
    from tfcnn.models.classifier import ModelConfig
    from tfcnn.record import load_run
    from tfcnn.training.config import TrainingConfig
    from tfcnn.training.machine import MachineConfig

    if "none" in args.export and len(args.export) > 1:
        raise InputError(f"expected 'none' or formats, got --export {' '.join(args.export)}")
    asked = [] if args.export == ["none"] else args.export
    data = config_of(DataConfig, args)
    speak_of(data.kind)
    crossed = data.folds is not None and data.fold is None
    args.output = args.output or Path("saved_models") / f"{_name_of(args.source)}{'-folds' if crossed else ''}"
    arguments = {"output": args.output, "model": config_of(ModelConfig, args), "training": config_of(TrainingConfig, args), "data": data,
                 "machine": config_of(MachineConfig, args), "overwrite": args.overwrite, "resume": args.resume}
    if args.repeats is not None and not crossed:
        raise InputError(f"expected --folds, all of them, for repeated splits, got --repeats {args.repeats}; --folds 5 tests every photo once a repeat")
    if crossed:
        result = cross_validate(args.source, **arguments, formats=asked, repeats=1 if args.repeats is None else args.repeats)
        say(folds_text(result, data.kind))
        say_json(args, result)
        return max(_verdict(load_run(run).record["exports"], asked) for run in result["runs"]) if asked else EXIT_DONE
    formats = [] if args.export == ["none"] else asked or list(default_formats(data.is_whole_graph))
    run = train_and_export(args.source, **arguments, formats=formats)
    record = run.record
    if record["status"] != "finished":  # of a worker that does not write
        say_json(args, {"run": str(run.path), "labels": run.labels, "validation": record["validation"]})
        return EXIT_DONE
    say(run_text(run))
    say_json(args, {"run": str(run.path), "labels": run.labels, "test": record["test"], "validation": record["validation"],
                    "seconds": record["seconds"]["total"], "stages": record["seconds"], "exports": record.get("exports", []),
                    "quarantined": record["data"]["quarantined"]})
    return _verdict(record.get("exports", []), formats)


def _find_rate(args) -> int:
    from tfcnn.data.config import DataConfig
    from tfcnn.flow import find_rate
    from tfcnn.models.classifier import ModelConfig
    from tfcnn.training.config import TrainingConfig
    from tfcnn.training.find_rate import check_picture
    from tfcnn.training.machine import MachineConfig

    output = Path(args.output or Path("saved_models") / f"{_name_of(args.source)}-rates.png")
    check_picture(output)
    found = find_rate(args.source, model=config_of(ModelConfig, args), training=config_of(TrainingConfig, args), data=config_of(DataConfig, args),
                      machine=config_of(MachineConfig, args), steps=args.steps)
    found.plot(output)
    say(f"{found}\n\npicture: {output}")
    say_json(args, {**found.to_dict(), "picture": str(output)})
    return EXIT_DONE


def _search(args) -> int:
    from tfcnn.data.config import DataConfig
    from tfcnn.models.classifier import ModelConfig
    from tfcnn.parser import NOT_OF_A_SEARCH
    from tfcnn.search.config import SearchConfig
    from tfcnn.search.search import search
    from tfcnn.training.config import TrainingConfig

    if len(args.weights) not in (1, len(args.backbone)):
        raise InputError(f"expected weights for all backbones or one for each of the {len(args.backbone)}, got {len(args.weights)} in --weights")
    weights = dict(zip(args.backbone, args.weights, strict=True)) if len(args.weights) > 1 else args.weights[0]
    model, data, training = (config_of(kind, args, leave_out=NOT_OF_A_SEARCH) for kind in (ModelConfig, DataConfig, TrainingConfig))
    fixed = [field.name for kind in (ModelConfig, TrainingConfig) for field in dataclasses.fields(kind)
             if field.metadata and getattr(args, field.name) is not None]
    output = Path(args.output or Path("saved_models") / f"{_name_of(args.source)}-search")
    found = search(args.source, output=output, backbone=args.backbone, weights=weights, image_size=args.image_size, model=model, training=training, data=data,
                   config=config_of(SearchConfig, args), fixed=fixed, only=args.fields, formats=args.export, devices=args.devices, overwrite=args.overwrite)
    if found.record["status"] == "finished":  # a worker leaves that to the chief
        say(f"{found}\n\npicture: {output / 'search.png'}\nbest run: {output / 'best'}   ('tfcnn export' writes its files)")
    say_json(args, found.to_dict())
    return EXIT_DONE


def _evaluate(args) -> int:
    from tfcnn.evaluation.calibration import PRECISIONS
    from tfcnn.evaluation.evaluate import evaluate
    from tfcnn.record import load_run

    start = time.perf_counter()
    run = load_run(args.run)
    speak_of(run.kind)
    data = _other_photos(args, run)
    report = evaluate(run, data, split=args.split, precisions=args.precision or PRECISIONS)
    left_out = data.quarantined if data else ()
    say("\n".join([str(report), *left_out_text([q._asdict() for q in left_out])]))
    say_json(args, {"run": str(run.path), "labels": run.labels, "validation": run.record.get("validation"), args.split: report.to_dict(),
                    "quarantined": [q._asdict() for q in left_out],
                    "seconds": round(time.perf_counter() - start, 2)})
    return EXIT_DONE


def _other_photos(args, run):
    """The photos of a source, all of them for the test; None where no source is given."""
    from tfcnn.data.run_data import load_for_run

    return load_for_run(run, args.source, data_dir=args.data_dir) if args.source else None


def _audit(args) -> int:
    from tfcnn.data.audit import audit

    speak_of(args.kind)
    output = Path(args.output or Path("saved_models") / f"{_name_of(args.source)}-audit")
    of_data = {name: getattr(args, name) for name in OF_AN_AUDIT} | {"split": tuple(args.split)}
    result = audit(args.source, output=output, image_size=args.image_size, difference=args.difference, **of_data)
    say(f"{result}\n\n{'pictures' if args.kind == IMAGE else 'page'}: {output / 'audit.html'}")
    say_json(args, {key: value for key, value in result.to_dict().items() if key != "files"})
    return EXIT_FAILED if result.problems or (args.strict and result.warnings) else EXIT_DONE


def _cache(args) -> int:
    from tfcnn.data.store import cache_bound, cache_folder, list_cache, trim_cache

    if args.keep is not None and not 0 <= args.keep <= 1e9:
        raise InputError(f"expected gigabytes from 0 up, got --keep {args.keep}")
    freed = trim_cache(0 if args.clear else int(args.keep * 1e9)) if args.clear or args.keep is not None else 0
    entries = list_cache()
    say(cache_text(entries, freed, cache_folder(), cache_bound()))
    say_json(args, {"folder": str(cache_folder()), "bound": cache_bound(), "freed": freed, "bytes": sum(e.bytes for e in entries),
                    "stores": [e._asdict() for e in entries]})
    return EXIT_DONE


def _predict(args) -> int:
    from tfcnn.evaluation.predict import predict
    from tfcnn.record import load_run

    run = load_run(args.run)
    speak_of(run.kind)
    files = [Path(file) if os.path.exists(file) else file for file in args.files]
    predictions = predict(run, files, output=args.output)
    damaged = [p for p in predictions if p.error]
    if args.output:
        say(f"{len(predictions) - len(damaged)} {KINDS[run.kind].many}: {args.output}")
    else:
        for p in predictions:
            say(f"{p.name}  {p.label}  {p.score:.3f}" if p.error is None else f"{p.name}  -  cannot be read")
    if damaged:
        say(f"{len(damaged)} of {len(predictions)} {'files' if run.kind == IMAGE else KINDS[run.kind].many} could not be read")
    say_json(args, {"predictions": [p._asdict() for p in predictions], "unreadable": [p.name for p in damaged]})
    return EXIT_FAILED if len(damaged) == len(predictions) else EXIT_DONE


def _explain(args) -> int:
    from tfcnn.evaluation.explain import explain

    output = args.output or Path(args.run) / "explanations"
    explained = explain(args.run, args.files, label=args.label, method=args.method, layer=args.layer, output=output)
    for e in explained:
        say(f"{e.name}  {e.label}  {e.score:.3f}{'' if e.label == e.answer else f' (answer: {e.answer})'}  {e.path}")
    say_json(args, {"explanations": [{"name": e.name, "label": e.label, "score": e.score, "answer": e.answer, "method": e.method, "picture": str(e.path)}
                                     for e in explained]})
    return EXIT_DONE


def _compare(args) -> int:
    from tfcnn.evaluation.compare import compare
    from tfcnn.record import load_run

    speak_of(load_run(args.first).kind)
    found = compare(args.first, args.second, args.source, data_dir=args.data_dir, output=args.output)
    say(str(found) + (f"\n\n{found.reports[0].many} with different answers: {args.output}" if args.output else ""))
    say_json(args, found.to_dict())
    return EXIT_DONE


def _report(args) -> int:
    from tfcnn.finish import make_report_again
    from tfcnn.record import load_run

    run = load_run(args.run)
    speak_of(run.kind)
    page = make_report_again(run, again=args.again)
    say(f"report: {page}")
    say_json(args, {"run": str(args.run), "report": str(page), "card": str(page.with_name("card.md"))})
    return EXIT_DONE


def _labels(args) -> int:
    from tfcnn.labels import check_labels

    output = Path(args.output or Path("saved_models") / f"{_name_of(args.source)}-labels")
    found = check_labels(args.source, backbone=args.backbone, weights=args.weights, image_size=args.image_size, folds=args.folds, repeats=args.repeats,
                         seed=args.seed, geometry=args.geometry, group_by=args.group_by, data_dir=args.data_dir, output=output)
    say(f"{found}\n\npictures: {output / 'labels.html'}\nall photos: {output / 'labels.csv'}")
    say_json(args, found.to_dict())
    return EXIT_DONE


def _export(args) -> int:
    from tfcnn.export.formats import default_formats
    from tfcnn.export.gate import check_formats, export, shippable
    from tfcnn.record import load_run

    run = load_run(args.run)
    formats = args.format or default_formats(run.is_of_a_graph)
    speak_of(run.kind)
    check_formats(formats, run.kind, run.record["model"]["backbone"], whole=run.is_of_a_graph)  # before photos are decoded
    written = export(run, _other_photos(args, run), formats=formats, **{name: getattr(args, name) for name in EXPORT_FLAGS})
    exports, bundle = [dataclasses.asdict(e) for e in written], args.bundle if shippable(written) else None
    say(exports_text(exports, run.kind) + (f"\nbundle: {bundle}" if bundle else ""))
    say_json(args, {"run": str(args.run), "exports": exports, "bundle": bundle})
    return _verdict(exports, formats)


def _serve(args) -> int:
    from tfcnn.export.serve import serve

    serve(args.run, port=args.port, ready=lambda url: say(f"{url}   (Ctrl-C ends it)"))
    return EXIT_DONE


def _backbones(args) -> int:
    from tfcnn.models.backbones import BACKBONES, backbones_markdown, backbones_text, list_backbones

    say(backbones_markdown() if args.markdown else backbones_text())
    say_json(args, {"backbones": {name: {**BACKBONES[name]._asdict(), "stages": [s for s, _ in BACKBONES[name].stages]} for name in list_backbones()}})
    return EXIT_DONE


def _inspect(args) -> int:
    from tfcnn.models.inspect import inspect_model

    result = inspect_model(args.network, image_size=args.image_size, trainable=args.trainable)
    say(result.table(layers=args.layers))
    say_json(args, result.to_dict())
    return EXIT_DONE


def _repeat(args) -> int:
    from tfcnn.record import load_run
    from tfcnn.repetition import machine_of, repeat
    from tfcnn.training.machine import MachineConfig

    run = load_run(args.run)
    machine = machine_of(run, **given_of(MachineConfig, args))
    result = repeat(run, output=args.output, machine=machine, overwrite=args.overwrite, resume=args.resume)
    say(f"\n{result}")
    say_json(args, result.to_dict())
    return EXIT_DONE


def _doctor(args) -> int:
    from tfcnn.diagnosis import NAMED, doctor

    found = doctor(backbones=args.backbones or NAMED, measure=not args.quick)
    say(str(found))
    say_json(args, found.to_dict())
    return EXIT_FAILED if found.unused else EXIT_DONE


def _completion(args) -> int:
    from tfcnn.completion import script_of

    script = script_of(make_parser(COMMANDS), args.shell)
    say(script)
    say_json(args, {"shell": args.shell, "script": script})
    return EXIT_DONE


def _demo(args) -> int:
    from tfcnn.demo import run_demo
    from tfcnn.export.formats import DEFAULT_FORMATS

    result = run_demo(args.output, seeds=args.seeds)
    say(result.pop("text") + exports_text(result["exports"]))
    say(f"\nreport: {Path(result['run']) / 'report.html'}   ({result['seconds']:.0f} s)")
    say_json(args, result)
    return _verdict(result["exports"], DEFAULT_FORMATS)


def _name_of(source: str) -> str:
    """What to call a run or an audit of a source: the name of its folder, file or data set."""
    if source.startswith("tfds:"):
        return re.sub(r"\W+", "-", source[5:])
    path = Path(source).resolve()
    return path.stem if path.suffix.lower() in (".csv", ".npz") else path.name


def _verdict(exports: list[dict], formats: typing.Sequence[str]) -> int:
    """Failed where one of these formats was rejected, or where 'auto' found none; what cannot be run here fails nothing."""
    if "auto" in formats:
        return EXIT_DONE if any(e["chosen"] for e in exports) else EXIT_FAILED
    return EXIT_FAILED if any(e["format"] in formats and not e["accepted"] and e["verdict"] != "unchecked" for e in exports) else EXIT_DONE


COMMANDS = {
    "demo": _demo, "doctor": _doctor, "audit": _audit, "train": _train, "repeat": _repeat, "find-rate": _find_rate, "search": _search, "evaluate": _evaluate,
    "predict": _predict, "explain": _explain, "compare": _compare, "report": _report, "labels": _labels, "export": _export, "serve": _serve,
    "backbones": _backbones, "inspect": _inspect, "cache": _cache, "completion": _completion,
}
