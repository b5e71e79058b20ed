"""Write scikit-learn's handwritten digits as images with a table, for examples=digits; nothing is downloaded.

python experiments/examples/digits.py [folder]    by default data/digits; digits.csv, 1,797 images, and 3 new ones
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

NUM_NEW = 3  # images without a row in the table, to predict
SCALE = 6  # pixels of the image for each of the digit's 8 × 8


def main(folder: Path) -> None:
    """Write the images and digits.csv into a folder."""
    digits = load_digits()
    images = np.kron(255 - digits.images * 255 / 16, np.ones((1, SCALE, SCALE))).round().astype(np.uint8)
    names = [f"new/{i:04d}.png" if i < NUM_NEW else f"{i:04d}.png" for i in range(len(images))]
    (folder / "new").mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).convert("RGB").save(folder / name)
    with open(folder / "digits.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "parity", "digit"])
        table.writerows([name, "odd" if digit % 2 else "even", int(digit)]
                        for name, digit in list(zip(names, digits.target, strict=True))[NUM_NEW:])  # fmt: skip
    print(f"{folder / 'digits.csv'}: {len(names) - NUM_NEW} images")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data/digits"))
