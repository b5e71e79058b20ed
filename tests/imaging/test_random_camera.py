"""Photos as from another camera: size, type and content are kept for photos of any size."""

from __future__ import annotations

import numpy as np
import pytest

from maskcls.imaging.random_camera import photograph


@pytest.mark.parametrize("size", [(30, 20), (48, 200), (201, 199), (1, 1)])
def test_a_camera_keeps_size_and_content(size: tuple[int, int]) -> None:
    height, width = size
    photo = np.zeros((height, width, 3), np.uint8)
    photo[:, width // 2 :] = 200
    for seed in range(20):
        taken = photograph(photo, np.random.default_rng(seed))
        assert taken.shape == photo.shape and taken.dtype == np.uint8
        if width > 1:
            assert taken[:, -width // 3 :].mean() > taken[:, : width // 3].mean() + 100
