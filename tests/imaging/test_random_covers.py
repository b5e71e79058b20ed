"""Random covers: they leave the eyes free, and many photos as they are."""

from __future__ import annotations

import numpy as np

from maskcls.imaging.landmarks import Landmarks
from maskcls.imaging.random_covers import draw_random_cover


def test_covers_leave_the_eyes_and_many_photos_as_they_are() -> None:
    at = Landmarks((70, 80), (130, 80), (100, 119), (78, 145), (122, 145))
    photo = np.random.default_rng(0).integers(100, 140, (256, 200, 3), dtype=np.uint8)
    drawn = [draw_random_cover(photo, at, np.random.default_rng(seed)) for seed in range(100)]
    assert all(np.array_equal(image[:70], photo[:70]) for image in drawn)
    assert 25 < sum(np.array_equal(image, photo) for image in drawn) < 55
