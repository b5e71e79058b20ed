"""Random masks: what each style covers, and that no two are alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from maskcls.imaging.face_masks import STYLES, Image, Style
from maskcls.imaging.landmarks import Landmarks
from maskcls.imaging.random_camera import photograph
from maskcls.imaging.random_covers import draw_random_cover
from maskcls.imaging.random_masks import draw_random_mask

AT = Landmarks((70, 80), (130, 80), (100, 119), (78, 145), (122, 145))
GREY = np.full((256, 200, 3), 120, np.uint8)


def changes(drawn: Image, photo: Image = GREY) -> np.ndarray:
    return np.abs(drawn.astype(int) - photo).max(2)


@pytest.mark.parametrize("style", STYLES)
def test_a_mask_covers_mouth_and_nose_as_its_style_says(style: Style) -> None:
    covered = []
    for seed in range(60):
        drawn = draw_random_mask(GREY, AT, style, np.random.default_rng(seed))
        assert drawn.shape == GREY.shape and drawn.dtype == np.uint8 and (GREY == 120).all()
        changed = changes(drawn)
        assert changed[80, 75:125].max() < 4 and (changed > 8).mean() > 0.003
        covered.append([(changed[y - 4 : y + 5, 96:105] > 6).mean() > 0.5 for y in (119, 145)])
    nose, mouth = np.mean(covered, 0)  # a mask may be as grey as the photo
    assert (nose > 0.9, mouth > 0.9) == (style == "worn", style in ("worn", "nose"))
    assert nose > 0.9 or nose < 0.1
    assert mouth > 0.9 or mouth < 0.15


@pytest.mark.parametrize("draw", [lambda image, rng: draw_random_mask(image, AT, "worn", rng),
                                  lambda image, rng: draw_random_cover(image, AT, rng), photograph])  # fmt: skip
def test_drawings_depend_on_the_seed_alone(draw: Callable[[Image, np.random.Generator], Image]) -> None:
    one, again = ([draw(GREY, np.random.default_rng(seed)).tobytes() for seed in range(20)] for _ in range(2))
    assert one == again and len(set(one)) > 10


@pytest.mark.parametrize("move", [(-90, 0), (90, 0), (0, 150), (0, -150), (500, 500)])
def test_a_face_at_the_border_or_outside_is_drawn_too(move: tuple[int, int]) -> None:
    x, y = move
    five = [(a + x, b + y) for a, b in (AT.left_eye, AT.right_eye, AT.nose, AT.left_mouth, AT.right_mouth)]
    at = Landmarks(*five)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        for image in (*(draw_random_mask(GREY, at, style, rng) for style in STYLES), draw_random_cover(GREY, at, rng)):
            assert image.shape == GREY.shape and (max(move) < 500 or np.array_equal(image, GREY))
