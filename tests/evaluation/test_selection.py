"""The bias of the best of several models' scores, against the truth of a simulation."""

from __future__ import annotations

import numpy as np

from maskcls.core.competition import MASK18
from maskcls.evaluation.intervals import PersonCounts, f1_of_counts, person_counts
from maskcls.evaluation.selection import selection_bias


def draw_models(rng: np.random.Generator, num_people: int, accuracies: list[float]) -> list[PersonCounts]:
    """Return the counts of models that know a person's gender and age, or guess; each person has seven images."""
    base = rng.integers(0, 6, num_people)
    labels = (base[:, None] + np.array([0, 0, 0, 0, 0, 6, 12])).ravel()
    persons = np.repeat(np.arange(num_people), 7).astype(str).tolist()
    guesses = (rng.random((len(accuracies), num_people)) > np.array(accuracies)[:, None]).repeat(7, 1)
    others = labels // 6 * 6 + rng.integers(0, 6, (len(accuracies), len(labels)))
    return [person_counts(labels, np.where(wrong, other, labels), persons, MASK18)
            for wrong, other in zip(guesses, others, strict=True)]  # fmt: skip


def test_the_bias_of_the_largest_of_equal_models_is_that_of_the_simulation() -> None:
    rng, bias, truth = np.random.default_rng(0), [], []
    for _ in range(12):
        models = draw_models(rng, 60, [0.7] * 10)
        scores = [float(f1_of_counts(counts.sum(0))) for counts in models]
        bias.append(selection_bias(models))
        truth.append(max(scores) - np.mean(scores))
    assert None not in bias
    error = np.std(np.subtract(bias, truth)) / np.sqrt(len(bias))  # type: ignore[arg-type]
    assert np.mean(bias) > 0.03 and abs(np.mean(np.subtract(bias, truth))) < 4 * error + 0.2 * np.mean(truth)  # type: ignore[arg-type]


def test_a_clear_winner_has_no_bias_a_single_model_none_and_few_people_no_answer() -> None:
    rng = np.random.default_rng(0)
    assert 0 <= selection_bias(draw_models(rng, 100, [0.95, 0.3, 0.3])) < 1e-3  # type: ignore[operator]
    assert selection_bias(draw_models(rng, 100, [0.7])) == 0
    assert selection_bias(draw_models(rng, 19, [0.7, 0.7])) is None
