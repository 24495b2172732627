"""Trains each program of originals/ with TensorFlow and its port with this project, on the same files.

    python tests/ports/compare.py --tensorflow-python PYTHON [--only iris]
    python tests/ports/compare.py --tensorflow-python PYTHON --seeds 10

Prints the changed lines and the metrics of both; ends with 1 if a port's AUC or accuracy is more than 0.05 below.

With --seeds, wide_deep is trained with so many seeds on each side, and the AUCs are compared as two samples. It ends
with 1 if the port's mean is more than two standard errors below TensorFlow's, or a seed of the port is more than three
standard deviations below TensorFlow's mean.
"""

import argparse
import difflib
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAMS = {"wide_deep": "auc", "census": "auc", "text_classification": "auc", "iris": "accuracy", "deepfm": "auc"}


def changed_lines(name):
    """How many lines of the original the port lacks, and how many it has instead."""
    texts = [(folder / f"{name}.py").read_text().splitlines() for folder in (HERE / "originals", HERE)]
    difference = [*difflib.unified_diff(*texts, lineterm="", n=0)][2:]
    return sum(line.startswith("-") for line in difference), sum(line.startswith("+") for line in difference)


def arguments(name, data, model):
    """The command line of a program: where its files lie, and its model_dir."""
    if name != "census":
        return ["--data_dir", str(data), "--model_dir", str(model)]
    files = ["--train-files", f"{data}/adult.train.csv", "--eval-files", f"{data}/adult.test.csv"]
    return [*files, "--job-dir", str(model)]


def metrics(python, program, name, data, model):
    export = {"census": ["--export-format", "JSON"], "wide_deep": ["--export_dir", f"{model}-servable"]}
    export["deepfm"] = ["--servable_dir", f"{model}-servable"]
    run = [python, str(program), *arguments(name, data, model), *export.get(name, [])]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)


ALL_SEEDS = """
import runpy, sys
program, data, model, count = sys.argv[1:]
main = runpy.run_path(program)["main"]
for seed in range(1, int(count) + 1):
    print(main(["--data_dir", data, "--model_dir", f"{model}-{seed}", "--seed", str(seed)])["auc"], flush=True)
"""


def compare_seeds(tensorflow_python, count, directory):
    """Prints the AUCs of wide_deep by seed; returns what is wrong with the port's, or 0."""
    found = {}
    for side, python, folder in (("TensorFlow", tensorflow_python, HERE / "originals"), ("port", sys.executable, HERE)):
        given = [str(folder / "wide_deep.py"), f"{directory}/data", f"{directory}/{side}", str(count)]
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # more would wait for each other in networks this small
        run = [python, "-c", ALL_SEEDS, *given]
        done = subprocess.run(run, capture_output=True, text=True, check=False, env=one_thread)
        if done.returncode:
            return done.stderr
        aucs = found[side] = [float(line) for line in done.stdout.split()]
        spread = f"deviation {statistics.stdev(aucs):.4f}, {min(aucs):.4f} to {max(aucs):.4f}"
        by_seed = " ".join(f"{auc:.4f}" for auc in aucs)
        print(f"{side}: mean {statistics.mean(aucs):.4f}, {spread}: {by_seed}", flush=True)
    theirs, ours = found.values()
    error = math.sqrt((statistics.variance(theirs) + statistics.variance(ours)) / count)
    mean, deviation = statistics.mean(theirs), statistics.stdev(theirs)
    if statistics.mean(ours) < mean - 2 * error:
        return "The port's mean is more than two standard errors below TensorFlow's."
    if min(ours) < mean - 3 * deviation:
        return "A seed of the port is more than three standard deviations below TensorFlow's mean."
    return 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tensorflow-python", required=True)
    parser.add_argument("--only", choices=PROGRAMS)
    parser.add_argument("--seeds", type=int, help="compare the AUCs of wide_deep with so many seeds, at least 2")
    options = parser.parse_args()
    behind = []
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([sys.executable, str(HERE / "data.py"), f"{directory}/data"], check=True)
        if options.seeds:
            sys.exit(compare_seeds(options.tensorflow_python, options.seeds, directory))
        for name in [options.only] if options.only else PROGRAMS:
            key, data = PROGRAMS[name], f"{directory}/data"
            # An export takes longer than a training, so the tests leave it to this script.
            theirs = metrics(
                options.tensorflow_python, HERE / f"originals/{name}.py", name, data, f"{directory}/{name}-1"
            )
            ours = metrics(sys.executable, HERE / f"{name}.py", name, data, f"{directory}/{name}-2")
            removed, added = changed_lines(name)
            print(f"{name}: -{removed} +{added} lines; {key} {float(theirs[key]):.3f} and {float(ours[key]):.3f}")
            behind += [name] if float(ours[key]) < float(theirs[key]) - 0.05 else []
    sys.exit(f"behind TensorFlow: {behind}" if behind else 0)


if __name__ == "__main__":
    main()
