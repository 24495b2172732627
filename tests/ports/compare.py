"""Trains each program of originals/ with TensorFlow and its port with this project, on the same files.

    python tests/ports/compare.py --tensorflow-python PYTHON [--only iris]

Prints the changed lines and the metrics of both; ends with 1 if a port's AUC or accuracy is more than 0.05 below.
"""

import argparse
import difflib
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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tensorflow-python", required=True)
    parser.add_argument("--only", choices=PROGRAMS)
    options = parser.parse_args()
    behind = []
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([sys.executable, str(HERE / "data.py"), f"{directory}/data"], check=True)
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
