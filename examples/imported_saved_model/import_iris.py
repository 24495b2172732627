"""A SavedModel of TensorFlow's tutorial "Premade Estimators" becomes a servable, without TensorFlow.

`saved_model/` beside this file is what `tf.estimator.DNNClassifier` exported after it learned the Iris data set;
make_saved_model.py is the program that did it. The command does the same as this program:

    estimator-serving import examples/imported_saved_model/saved_model build/iris
"""

import argparse
from pathlib import Path

from estimator_serving.exporter import import_saved_model
from estimator_serving.serving.in_process import load

FLOWERS = [
    {"SepalLength": 5.1, "SepalWidth": 3.3, "PetalLength": 1.7, "PetalWidth": 0.5},
    {"SepalLength": 5.9, "SepalWidth": 3.0, "PetalLength": 4.2, "PetalWidth": 1.5},
    {"SepalLength": 6.9, "SepalWidth": 3.1, "PetalLength": 5.4, "PetalWidth": 2.1},
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default="build/iris", help="where the servable goes (%(default)s)")
    version = import_saved_model(Path(__file__).parent / "saved_model", parser.parse_args().base)
    print(version)
    answer = load(version).signatures["predict"](examples=FLOWERS)
    for flower, species, shares in zip(FLOWERS, answer["classes"], answer["probabilities"], strict=True):
        print(f"petals of {flower['PetalLength']} cm: {species[0]} ({shares.max():.0%})")


if __name__ == "__main__":
    main()
