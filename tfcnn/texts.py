"""What the command line prints of results, as text."""

import time
from pathlib import Path

from tfcnn.kinds import IMAGE, KINDS, in_words


def run_text(run) -> str:
    """What a finished training says: times, test, what was kept and why, files left out, exports."""
    from tfcnn.evaluation.evaluate import Report

    record = run.record
    test = {**record["test"], "interval": tuple(record["test"]["interval"])}
    lines = ["", *(f"{name:<34} {taken:7.1f} s" for name, taken in record["seconds"].items()), "", str(Report(**test))]
    lines += ["", in_words(record["kept_because"], run.kind)] if record.get("kept_because") else []
    left_out = record["data"]["quarantined"]
    lines += left_out_text(left_out, "in run.json")
    if record.get("exports"):
        lines += ["", exports_text(record["exports"], run.kind)]
    return "\n".join([*lines, "", f"report: {run.path / 'report.html'}"])


def left_out_text(left_out: list[dict], rest: str = "in the line of --json") -> list[str]:
    """Lines that name the first files that could not be used; `rest` says where the others stand."""
    if not left_out:
        return []
    lines = ["", f"{len(left_out)} of the files were left out:", *(f"  {q['path']}: {q['reason']}" for q in left_out[:5])]
    return [*lines, f"  ... the rest is {rest}"] if len(left_out) > 5 else lines


def exports_text(exports: list[dict], kind: str = IMAGE) -> str:
    """A table of exports, as `tfcnn.export.check.Export` has them, with the reason where one is not plainly accepted."""
    from tfcnn.evaluation.words import layers_in_float

    shown = lambda value, form, width: f"{'-' if value is None else format(value, form):>{width}}"
    lines = [f"{'format':<18} {'MB':>7} {'accuracy':>9} {'lost':>6} {'agreement':>10} {'max diff':>9} {f'ms/{KINDS[kind].one}':>9}  file"]
    for e in exports:
        lost = None if e["accuracy_drop"] is None else 100 * e["accuracy_drop"]
        lines.append(f"{e['format']:<18} {e['bytes'] / 1e6:>7.2f} {shown(e['accuracy'], '.3f', 9)} {shown(lost, '.1f', 6)} "
                     f"{shown(e['agreement'], '.3f', 10)} {shown(e['max_score_difference'], '.1e', 9)} {shown(e['milliseconds'], '.1f', 9)}  "
                     f"{e['path']}{'  <- chosen' if e['chosen'] else ''}")
        over = e["details"].get("over_budget")
        if e["verdict"] != "accepted" or e["reason"] or over:
            lines.append(f"{'':<18} {e['verdict']}{': ' if e['reason'] else ''}{e['reason']}{f', but {over}' if over else ''}")
        if e["details"].get("float_layers"):
            lines.append(f"{'':<18} {layers_in_float(e['details'])}")
    photos = " and ".join(dict.fromkeys(f"{e['n']} {e['photos']} {KINDS[kind].many}" for e in exports if e["accuracy"] is not None))
    return "\n".join([*lines, f"lost: points of accuracy against Keras{f' on {photos}' if photos else ''}; ms: one thread of this computer"])


def folds_text(result: dict, kind: str = IMAGE) -> str:
    """What a cross-validation gave, by fold and in all."""
    low, high = result["interval"]
    several = result["repeats"]["sd"] is not None
    name_of = lambda run: "/".join(Path(run).parts[-2 if several else -1:])
    lines = [f"{name_of(run)}: accuracy {accuracy:.3f}  {run}" for accuracy, run in zip(result["accuracies"], result["runs"], strict=True)]
    lines += ["", f"{len(result['runs'])} runs: accuracy {result['mean']:.3f} ± {result['sd']:.3f} (mean and standard deviation)"]
    if several:
        shares = ", ".join(f"{share:.3f}" for share in result["repeats"]["accuracies"])
        lines.append(f"{len(result['repeats']['seeds'])} repeats over all {KINDS[kind].many}: {shares}, "
                     f"standard deviation {result['repeats']['sd']:.3f}")
    once = f"each tested once{' a repeat' if several else ''}"
    return "\n".join(["", *lines, f"all {result['n']} {KINDS[kind].many}, {once}: {result['accuracy']:.3f} [{low:.3f}, {high:.3f}]"])


def cache_text(entries, freed: int, folder, bound: int) -> str:
    """A table of the stores in the cache, and what was removed."""
    width = max((len(e.name) for e in entries), default=0)
    lines = [f"{e.name:<{width}} {e.rows:>9} rows {e.bytes / 1e6:>10.1f} MB  used {time.strftime('%Y-%m-%d %H:%M', time.localtime(e.used))}"
             f"{'  in use' if e.in_use else ''}" for e in entries]
    total = sum(e.bytes for e in entries)
    lines.append(f"{folder}: {total / 1e6:.1f} MB of at most {bound / 1e9:g} GB (TFCNN_CACHE_GB)")
    return "\n".join([*lines, f"{freed / 1e6:.1f} MB were removed"] if freed else lines)
