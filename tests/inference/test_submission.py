"""Files of predictions: their names, and that nothing is overwritten unasked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maskcls.core.competition import MASK18
from maskcls.core.errors import ConfigError
from maskcls.inference.submission import probabilities_path, write_submission
from maskcls.storage.predictions import Predictions


def predictions(label: int) -> Predictions:
    """Return sure predictions of one image."""
    return Predictions(np.array(["a/x.jpg"]), np.eye(18, dtype=np.float32)[[label]])


@pytest.mark.parametrize(
    ("out", "probs"),
    [
        ("submission.csv", "probabilities.csv"),
        ("d/submission-2.csv", "d/probabilities-2.csv"),
        ("predictions-mine.csv", "probabilities-mine.csv"),
        ("s.csv", "probabilities-s.csv"),
        ("submissions.csv", "probabilities-submissions.csv"),
        ("probabilities.csv", "probabilities-probabilities.csv"),
    ],
)
def test_probabilities_are_named_after_their_file(out: str, probs: str) -> None:
    assert probabilities_path(Path(out)) == Path(probs)


def test_equal_content_is_written_again_and_other_content_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "submission.csv"
    for _ in range(2):
        write_submission(predictions(3), out, False, MASK18)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for _ in range(2):  # the second time the number is the same
        with pytest.raises(ConfigError, match=r"submission\.csv .*exists with other content and is kept") as caught:
            write_submission(predictions(4), out, False, MASK18)
    assert "submission-2.csv" in str(caught.value) and "Set overwrite=true to replace it" in str(caught.value)
    assert {path: path.read_bytes() for path in before} == before
    assert {path.name for path in tmp_path.iterdir()} == {
        "submission.csv", "probabilities.csv", "submission-2.csv", "probabilities-2.csv",
    }  # fmt: skip
    assert (tmp_path / "submission-2.csv").read_text() == "ImageID,ans\nx.jpg,4\n"
    write_submission(predictions(4), out, True, MASK18)
    assert out.read_text() == "ImageID,ans\nx.jpg,4\n"


def test_the_same_classes_with_other_probabilities_are_other_content(tmp_path: Path) -> None:
    write_submission(predictions(3), out := tmp_path / "a.csv", False, MASK18)
    probs = np.full((1, 18), 0.01, np.float32)
    probs[0, 3] = 0.83
    with pytest.raises(ConfigError, match=r"a-2\.csv and .*probabilities-a-2\.csv"):
        write_submission(Predictions(np.array(["a/x.jpg"]), probs), out, False, MASK18)
