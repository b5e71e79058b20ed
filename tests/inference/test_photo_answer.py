"""The answer to one photo: bars as text, HTML for notebooks; and the map of Grad-CAM."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from made_tasks import each_task
from rich.cells import cell_len
from torch import nn

from maskcls import load
from maskcls.components.head import single
from maskcls.core.competition import MASK18
from maskcls.core.task import Task
from maskcls.inference.grad_cam import class_map
from maskcls.inference.photo_answer import MAX_BARS, PhotoAnswer

GRAY = np.full((40, 30, 3), 128, np.uint8)


def test_a_notebook_shows_pictures_and_three_groups_of_bars() -> None:
    probs = 0.9 * MASK18.one_hot(4) + 0.1 / 18
    answer = PhotoAnswer(GRAY, GRAY[:20], probs.astype(np.float32), MASK18, note="<b>no</b>")
    html = answer._repr_html_()
    assert html.count("<img ") == 2 and html.count('class="mk-row"') == 8 and "worn female 30-59" in html
    assert "&lt;b&gt;no" in html and "<b>no" not in html and "script" not in html
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", html)]
    assert sum(widths) == pytest.approx(300, abs=0.5)
    assert answer.to_html().count('class="mk-row mk-wide"') == 18
    assert "worn female 30-59 (91%)" in repr(answer) and repr(answer).count("\n") == 8


def test_a_calibrated_answer_names_the_predicted_class() -> None:
    probs = 0.5 * MASK18.one_hot(4) + 0.4 * MASK18.one_hot(7) + 0.1 / 18
    answer = PhotoAnswer(GRAY, GRAY, probs.astype(np.float32), MASK18, pred=7)
    assert answer.name == MASK18.classes[7] and repr(answer).startswith(f"{MASK18.classes[7]} (41%)")
    assert f"<strong>{answer.name.replace('<', '&lt;').replace('>', '&gt;')}</strong> 40.6 %" in answer.to_html()


def test_a_loaded_model_shows_a_photo(finished: tuple[list[str], Path], people: Path) -> None:
    photo = next((people / "train" / "images").glob("*/normal.*"))
    model = load(finished[1])
    answer = model.show(photo)
    assert answer.crop.shape == (32, 24, 3) and np.array_equal(answer.probs, model(photo)[0])
    assert answer.classes[0][0] == answer.name and {name for name, _ in answer.classes} == {*MASK18.classes}


class Corner(nn.Module):
    """A network whose first class is brightness: features are 8 × 8 means of the red channel."""

    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Return (N, 1, H / 8, W / 8)."""
        return nn.functional.avg_pool2d(images[:, :1], 8).requires_grad_()

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        """Return (N, 18) logits, of which the first grows with the brightness."""
        return torch.cat([features.flatten(1).sum(1, keepdim=True), torch.zeros(len(features), 17)], 1)


def test_grad_cam_points_to_the_part_that_made_the_class() -> None:
    image = np.zeros((32, 24, 3), np.uint8)
    image[:8, 16:] = 255
    found = class_map(Corner(), single(MASK18), image, 0, torch.device("cpu"))
    assert found is not None and found.shape == (4, 3)
    assert found[0, 2] == 1 and found.sum() == 1


def test_grad_cam_of_a_frozen_network_needs_no_gradient_of_its_weights() -> None:
    network = Corner()
    network.forward_features = lambda images: nn.functional.avg_pool2d(images[:, :1], 8)  # type: ignore[method-assign]
    found = class_map(network, single(MASK18), np.full((32, 24, 3), 200, np.uint8), 0, torch.device("cpu"))
    assert found is not None and found.min() == 1


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (2, 1500), (900, 2)])
def test_a_photo_of_any_aspect_has_a_picture(shape: tuple[int, int]) -> None:
    photo = np.full((*shape, 3), 128, np.uint8)
    assert PhotoAnswer(photo, GRAY, MASK18.one_hot(4), MASK18).to_html().count("<img ") == 2


def test_a_network_without_separate_features_has_no_map() -> None:
    assert class_map(nn.Flatten(), single(MASK18), GRAY, 0, torch.device("cpu")) is None
    listed = Corner()
    listed.forward_features = lambda images: [images]  # type: ignore[method-assign]
    assert class_map(listed, single(MASK18), GRAY, 0, torch.device("cpu")) is None


def test_features_that_are_no_map_have_no_picture() -> None:
    flat = Corner()
    flat.forward_features = lambda images: images.flatten(2).mT  # type: ignore[method-assign]
    assert class_map(flat, single(MASK18), GRAY, 0, torch.device("cpu")) is None
    assert class_map(Corner(), single(MASK18), GRAY[:8, :8], 0, torch.device("cpu")) is None  # one cell


@each_task
def test_an_answer_shows_the_attributes_of_any_task(task: Task) -> None:
    """A bar for each value of each attribute, the classes unless they are those values, and at most MAX_BARS of each."""
    probs = np.random.default_rng(0).dirichlet(np.ones(task.num_classes)).astype(np.float32)
    answer = PhotoAnswer(GRAY, GRAY, probs, task)
    assert answer.name == task.classes[int(probs.argmax())] and repr(answer).startswith(answer.name)
    bars, html = [min(size, MAX_BARS) for size in task.shape], answer.to_html()
    assert repr(answer).count("\n") == sum(bars) == html.count('class="mk-row"')
    many = len(task.names) > 1
    assert html.count("mk-row mk-wide") == many * min(task.num_classes, MAX_BARS)
    assert ("classes</h4>" in html) == many and all(f"<h4>{name}</h4>" in html for name in task.names)
    assert (f">{MAX_BARS} of {task.num_classes} classes<" in html) == (many and task.num_classes > MAX_BARS)
    for name, values, marginal in zip(task.names, task.shape, task.marginals(probs[None]), strict=True):
        assert list(answer.attributes[name].values()) == pytest.approx(marginal[0].tolist())
        shown = answer.bars[name]
        assert shown[0][1] == (max(marginal[0]) if values > MAX_BARS else marginal[0][0])
    widths = {cell_len(line[: line.index("%") + 1]) for line in repr(answer).splitlines()[1:]}
    assert len(widths) == 1, "columns are aligned, also those of wide letters"
