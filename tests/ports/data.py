"""The files that the ported programs read: people with an income, reviews of films, irises, clicks. Made up, by a seed.

    python tests/ports/data.py DIRECTORY

Knows neither TensorFlow nor this project: both read the same files.
"""

import csv
import sys
from pathlib import Path

import numpy as np

EDUCATION = ["HS-grad", "Some-college", "Bachelors", "Masters", "Doctorate", "11th", "Assoc-voc"]
MARITAL = ["Married-civ-spouse", "Divorced", "Never-married", "Widowed"]
RELATIONSHIP = ["Husband", "Not-in-family", "Wife", "Own-child", "Unmarried"]
WORK = ["Private", "Self-emp-not-inc", "Local-gov", "Federal-gov", "?"]
OCCUPATION = ["Tech-support", "Sales", "Exec-managerial", "Prof-specialty", "Craft-repair", "Other-service", "?"]
GOOD, BAD = ["great", "moving", "brilliant", "warm", "clever"], ["dull", "awful", "slow", "clumsy", "empty"]
OTHER = ["the", "film", "plot", "actor", "scene", "with", "and", "a", "was", "of", "music", "story", "camera", "ending"]


def write_census(path, rows, random):
    """The fifteen columns of the census file, without a header."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        for _ in range(rows):
            age, years, hours = random.integers(17, 80), random.integers(4, 16), random.integers(20, 70)
            education, marital = random.choice(EDUCATION), random.choice(MARITAL)
            job = random.choice(OCCUPATION)
            score = 0.08 * (years - 10) + 0.02 * (age - 40) + 0.03 * (hours - 40) - 0.9 + random.normal() * 0.5
            score += 1.2 * (marital == "Married-civ-spouse") + 0.9 * (job in ("Exec-managerial", "Prof-specialty"))
            csv.writer(file).writerow(
                [
                    age, random.choice(WORK), random.integers(20000, 400000), education, years, marital, job,
                    random.choice(RELATIONSHIP), random.choice(["White", "Black", "Other"]),
                    random.choice(["Male", "Female"]), random.integers(0, 2) * random.integers(0, 9000), 0, hours,
                    random.choice(["United-States", "Mexico", "Germany"]), ">50K" if score > 0 else "<=50K",
                ]
            )  # fmt: skip


def write_reviews(path, rows, random):
    """A label and a text, tab between them."""
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(rows):
            label = random.integers(2)
            said = random.choice([GOOD, BAD][1 - label] if random.random() > 0.1 else [*GOOD, *BAD], 2)
            words = [*random.choice(OTHER, random.integers(3, 9)), *said]
            random.shuffle(words)
            file.write(f"{label}\t{' '.join(words)}\n")


def write_irises(path, rows, random):
    """Four measures and a species, under a header."""
    centers = np.array([[5.0, 3.4, 1.5, 0.2], [5.9, 2.8, 4.3, 1.3], [6.6, 3.0, 5.6, 2.0]])
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["SepalLength", "SepalWidth", "PetalLength", "PetalWidth", "Species"])
        for _ in range(rows):
            species = random.integers(3)
            writer.writerow([*np.round(centers[species] + random.normal(size=4) * 0.3, 1), species])


def write_clicks(path, rows, random):
    """libsvm: a label, then field:value of six features among 60."""
    truth = np.random.default_rng(7).normal(size=60)
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(rows):
            ids = np.array([random.integers(10 * field, 10 * field + 10) for field in range(6)])
            values = np.where(np.arange(6) < 2, random.random(6).round(3), 1.0)
            score = (truth[ids] * values).sum() + truth[ids[2]] * truth[ids[3]]
            pairs = " ".join(f"{i}:{v}" for i, v in zip(ids, values, strict=True))
            file.write(f"{int(score > 0)} {pairs}\n")


def write_all(directory):
    random = np.random.default_rng(0)
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name, write, rows in (
        ("adult.{}.csv", write_census, (1600, 800)),
        ("reviews.{}.tsv", write_reviews, (600, 300)),
        ("iris.{}.csv", write_irises, (120, 60)),
        ("clicks.{}.libsvm", write_clicks, (2000, 800)),
    ):
        for part, count in zip(("train", "test"), rows, strict=True):
            write(directory / name.format(part), count, random)
    (directory / "words.txt").write_text("\n".join(sorted([*GOOD, *BAD, *OTHER])) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_all(sys.argv[1])
