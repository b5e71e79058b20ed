"""Exports of any task: outputs and metadata by its attributes, which the file alone gives back."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from made_tasks import STAGES, TWO, each_task
from torch import Tensor, nn

from maskcls.components.tta import registry as views
from maskcls.core.errors import ConfigError, RunError
from maskcls.core.task import Attribute, Task
from maskcls.inference.onnx_export import check_exportable, describe, write_model
from maskcls.inference.onnx_graph import FoldMean, network_graph
from maskcls.inference.onnx_model import OnnxModel

pytest.importorskip("onnxscript")
SIZE = (8, 6)
NAMED = Task((Attribute("crop", ("rye", "oats")), Attribute("view", ("a", "b")), Attribute("linear", ("yes", "no")),
              Attribute("softmax", ("none", "some"))))  # fmt: skip


class Flat(nn.Module):
    """A network of one layer."""

    mean, std = (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * SIZE[0] * SIZE[1], outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        return self.layer(images.flatten(1))


class Softmax:
    """A head of one classifier over all classes, with the moments of a number if the task has one."""

    def __init__(self, task: Task) -> None:
        self.num_columns = task.num_classes + 2 * (task.number is not None)
        self.has_number = task.number is not None

    def predict(self, logits: Tensor) -> Tensor:
        """Return probabilities, and E[number] and E[number²] of the numbers 0, 1, …."""
        probs = logits.float().softmax(1)
        numbers = torch.arange(probs.shape[1], dtype=torch.float32)
        return torch.cat([probs, probs @ torch.stack([numbers, numbers**2], 1)], 1) if self.has_number else probs


def predictor(task: Task, bias: list[float] | None = None) -> Any:
    """Return what stands for the predictor of two networks."""
    torch.manual_seed(0)
    networks = [Flat(task.num_classes).eval() for _ in range(2)]
    source = SimpleNamespace(name="a-1", bias=bias, config={})
    return SimpleNamespace(
        task=task, source=source, files=[Path("a"), Path("b")], contents=[[0], [1]], heads=[Softmax(task)] * 2,
        checkpoints=lambda: [(0, Path("a")), (1, Path("b"))], build_model=lambda content, file, size: networks[content],
        tta_views=views.builders["none"](), crop_component=SimpleNamespace(name="resize", params={}),
    )  # fmt: skip


def exported(task: Task, path: Path, bias: list[float] | None = None) -> tuple[FoldMean, OnnxModel]:
    """Return the network of a task, and its export."""
    model = predictor(task, bias)
    network = FoldMean(model, SIZE)
    write_model(network_graph(network, SIZE), path, describe(model, "crops", "fp32", SIZE))
    return network, OnnxModel(path)


@pytest.mark.parametrize("has_bias", [False, True])
@each_task
def test_a_file_has_an_output_for_each_attribute_and_gives_back_its_task(
    task: Task, has_bias: bool, tmp_path: Path
) -> None:
    bias = np.random.default_rng(1).normal(0, 1, task.num_classes).tolist() if has_bias else None
    network, model = exported(task, tmp_path / "m.onnx", bias)
    number = [f"expected_{task.number.name}", f"{task.number.name}_sd"] if task.number else []
    assert model.names == network.outputs == [*task.names, "class", *number]
    assert model.task.values == task.values and model.classes == task.classes
    pixels = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), np.uint8)
    found, expected = model.predict_pixels(pixels), network(torch.from_numpy(pixels))
    for name, values in zip(network.outputs, expected, strict=True):
        np.testing.assert_allclose(found[name], values.numpy(), atol=1e-4)
    for name, marginal in zip(task.names, task.marginals(found["class"]), strict=True):
        np.testing.assert_allclose(found[name], marginal, atol=1e-5)
    assert model(list(pixels)).shape == (3, task.num_classes) and model([]).shape == (0, task.num_classes)


def test_attributes_may_be_named_like_parts_of_the_graph_and_facts_of_the_file(tmp_path: Path) -> None:
    network, model = exported(NAMED, tmp_path / "m.onnx")
    assert model.task.values == NAMED.values and model.metadata["crop"] == {"name": "resize"}
    pixels = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), np.uint8)
    found, expected = model.predict_pixels(pixels), network(torch.from_numpy(pixels))
    for name, values in zip(network.outputs, expected, strict=True):
        np.testing.assert_allclose(found[name], values.numpy(), atol=1e-5)


def test_an_attribute_named_like_the_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="attribute crops has the name of the file's input"):
        check_exportable(predictor(Task((Attribute("crops", ("rye", "oats")),))), "crops")


@pytest.mark.parametrize("change", [
    {"classes": ["a", "b", "c", "d"]}, {"classes": list(TWO.classes[::-1])}, {"colour": ["red"]}, {"colour": None},
    {"colour": ["x"] * 10**6, "glasses": ["y"] * 10**6}, {"attributes": 3}, {"attributes": {}},
])  # fmt: skip
def test_a_file_whose_classes_are_not_those_of_its_attributes_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    exported(TWO, path := tmp_path / "m.onnx")
    graph = onnx.load(path)
    facts = json.loads({item.key: item.value for item in graph.metadata_props}["maskcls"]) | change
    onnx.helper.set_model_props(graph, {"maskcls": json.dumps(facts)})
    onnx.save(graph, path)
    with pytest.raises(RunError, match=r"has other classes or another order|does not name its attributes' values"):
        OnnxModel(path)


def test_the_number_of_a_task_is_an_output(tmp_path: Path) -> None:
    _, model = exported(STAGES, tmp_path / "m.onnx")
    found = model.predict_pixels(np.zeros((1, *SIZE, 3), np.uint8))
    numbers = np.arange(STAGES.num_classes)
    assert found["expected_stage"] == pytest.approx((found["class"][0] * numbers).sum(), abs=1e-4)
