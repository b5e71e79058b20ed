"""Smaller ONNX models: half precision, and 8-bit integers calibrated on training images."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from maskcls.core.errors import RunError
from maskcls.data.pixel_cache import Pixels
from maskcls.imaging.image_io import read_image
from maskcls.inference.evaluation_set import check_run, image_paths
from maskcls.inference.predictor import Predictor

NUM_CALIBRATION = 128  # training images that determine the ranges of the activations
CALIBRATION_BATCH = 16
LAYERS = ["Conv", "MatMul"]  # all others stay in fp32


def as_fp16(graph: Any) -> Any:
    """Return a network with weights and layers in fp16; normalization and probabilities stay in fp32."""
    with quiet():
        from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
        from onnxruntime.transformers.onnx_model import OnnxModel

        kept = [*DEFAULT_OP_BLOCK_LIST, "Cast", "Softmax", "Einsum", "Sub", "Div"]
        small = OnnxModel(convert_float_to_float16(graph, keep_io_types=True, op_block_list=kept))
        drop_repeated_casts(small.model)
        small.topological_sort(is_deterministic=True)  # the converter appends its casts
        return small.model


def drop_repeated_casts(graph: Any) -> None:
    """Remove the casts that the converter has added once more for a second reader of the same value."""
    seen: set[str] = set()
    nodes = []
    for node in graph.graph.node:
        if node.op_type != "Cast" or node.output[0] not in seen:
            nodes.append(node)
        seen.update(node.output)
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)


def quantize(graph: Any, predictor: Predictor) -> Any:
    """Return a network with its layers in 8-bit integers (Jacob et al. 2018), weights per channel.

    Ranges of activations are the least and greatest values on training images, chosen evenly among the run's.
    """
    import onnx

    pixels = calibration_pixels(predictor)
    with tempfile.TemporaryDirectory() as folder, quiet():
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        plain, ready, small = (Path(folder) / f"{name}.onnx" for name in ("plain", "ready", "small"))
        onnx.save(graph, plain)
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        quantize_static(
            ready, small, Batches(pixels), quant_format=QuantFormat.QDQ, op_types_to_quantize=LAYERS, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            nodes_to_exclude=find_excluded(onnx.load(ready)),
        )  # fmt: skip
        return onnx.load(small)


def find_excluded(graph: Any) -> list[str]:
    """Return the names of layers that stay in fp32: first convolutions, and sums of probabilities.

    The latter are the products of a softmax with numbers and their squares (head=years), for which 8 bits are too few.
    First convolutions and the classifier (Gemm, never quantized) are small and lose most: of 350 images, 17 % changed
    their class with them in 8 bits, 8 % without (effnet_lite0, head=years).
    """
    nodes = graph.graph.node
    shapes = {tensor.name: tensor.dims for tensor in graph.graph.initializer}
    ends = [node.name for node in nodes if node.op_type == "Conv" and is_first(node, shapes)]
    probs = {name for node in nodes if node.op_type == "Softmax" for name in node.output}
    constants = {tensor.name for tensor in graph.graph.initializer}
    constants |= {name for node in nodes if node.op_type == "Constant" for name in node.output}
    sums = [node.name for node in nodes
            if node.op_type == "MatMul" and probs & {*node.input} and constants & {*node.input}]  # fmt: skip
    return [*ends, *sums]


def is_first(node: Any, shapes: dict[str, Any]) -> bool:
    """Return True if a convolution reads an image: three channels."""
    return len(node.input) > 1 and list(shapes.get(node.input[1], ()))[1:2] == [3]


class Batches:
    """Batches of crops, as onnxruntime's calibration reads them: one dict of inputs at a time, then None."""

    def __init__(self, pixels: Pixels) -> None:
        starts = range(0, len(pixels), CALIBRATION_BATCH)
        self.batches = iter([{"crops": np.ascontiguousarray(pixels[i : i + CALIBRATION_BATCH])} for i in starts])

    def get_next(self) -> dict[str, Pixels] | None:
        """Return the next inputs, None after the last."""
        return next(self.batches, None)


def calibration_pixels(predictor: Predictor) -> Pixels:
    """Return crops of training images of a model's run, (N, H, W, 3); RunError if they are not where it had them."""
    run = check_run(predictor.source)
    try:
        paths = image_paths(run)
    except RunError as error:
        raise RunError(f"precision=int8 is calibrated on training images, which cannot be read: {error}") from error
    ids = run.table.query("part == 'train'")["id"]
    known = ids[ids.isin(paths.index)].tolist()
    if not known:
        what = "precision=int8 is calibrated on training images, and none is where its config says"
        raise RunError(f"{run.path}: {what}")
    chosen = [known[i] for i in np.unique(np.linspace(0, len(known) - 1, NUM_CALIBRATION).astype(int))]
    return np.stack([predictor.crop_photo(read_image(path)) for path in paths[chosen]])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Context manager without the warnings and messages of the converters, which advise what is done already."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.setLevel(level)
