"""What the command line prints of results, as text."""

import time


def run_text(run) -> str:
    """What a finished training says: times, test, what was kept and why, files left out, exports."""
    from tfcnn.evaluation.evaluate import Report

    record = run.record
    test = {**record["test"], "interval": tuple(record["test"]["interval"])}
    lines = ["", *(f"{name:<34} {taken:7.1f} s" for name, taken in record["seconds"].items()), "", str(Report(**test))]
    lines += ["", record["kept_because"]] if record.get("kept_because") else []
    left_out = record["data"]["quarantined"]
    lines += left_out_text(left_out, "in run.json")
    if record.get("exports"):
        lines += ["", exports_text(record["exports"])]
    return "\n".join([*lines, "", f"report: {run.path / 'report.html'}"])


def left_out_text(left_out: list[dict], rest: str = "in the line of --json") -> list[str]:
    """Lines that name the first files that could not be used; `rest` says where the others stand."""
    if not left_out:
        return []
    lines = ["", f"{len(left_out)} of the files were left out:", *(f"  {q['path']}: {q['reason']}" for q in left_out[:5])]
    return [*lines, f"  ... the rest is {rest}"] if len(left_out) > 5 else lines


def exports_text(exports: list[dict]) -> str:
    """A table of exports, as `tfcnn.export.gate.Export` has them, with the reason of each rejection."""
    lines = [f"{'format':<15} {'MB':>7} {'accuracy':>9} {'agreement':>10} {'max diff':>9} {'ms/photo':>9}  file (ms: one thread of this computer)"]
    for e in exports:
        difference = "-" if e["max_score_difference"] is None else f"{e['max_score_difference']:.1e}"
        lines.append(f"{e['format']:<15} {e['bytes'] / 1e6:>7.2f} {e['accuracy']:>9.3f} {e['agreement']:>10.3f} {difference:>9} "
                     f"{e['milliseconds']:>9.1f}  {e['path']}")
        if not e["accepted"]:
            lines.append(f"{'':<15} REJECTED: {e['reason']}")
    return "\n".join(lines)


def folds_text(result: dict) -> str:
    """What a cross-validation gave, by fold and in all."""
    low, high = result["interval"]
    lines = [f"fold {fold}: accuracy {accuracy:.3f}  {run}" for fold, (accuracy, run) in enumerate(zip(result["accuracies"], result["runs"], strict=True))]
    return "\n".join(["", *lines, "", f"{result['folds']} folds: accuracy {result['mean']:.3f} ± {result['sd']:.3f} (mean and standard deviation)",
                      f"all {result['n']} photos, each tested once: {result['accuracy']:.3f} [{low:.3f}, {high:.3f}]"])


def cache_text(entries, freed: int, folder, bound: int) -> str:
    """A table of the stores in the cache, and what was removed."""
    width = max((len(e.name) for e in entries), default=0)
    lines = [f"{e.name:<{width}} {e.rows:>9} rows {e.bytes / 1e6:>10.1f} MB  used {time.strftime('%Y-%m-%d %H:%M', time.localtime(e.used))}"
             f"{'  in use' if e.in_use else ''}" for e in entries]
    total = sum(e.bytes for e in entries)
    lines.append(f"{folder}: {total / 1e6:.1f} MB of at most {bound / 1e9:g} GB (TFCNN_CACHE_GB)")
    return "\n".join([*lines, f"{freed / 1e6:.1f} MB were removed"] if freed else lines)
