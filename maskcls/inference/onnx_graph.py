"""The parts of an ONNX graph: the network of a model's folds, and the preprocessing of raw photos before it."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maskcls.components import crop
from maskcls.core.errors import ConfigError
from maskcls.core.registry import Component
from maskcls.evaluation.stacking import TINY
from maskcls.inference.forward import channel_stats, normalize
from maskcls.inference.predictor import Predictor
from maskcls.storage.predictions import number_columns

OPSET = 18


class FoldMean(nn.Module):
    """The mean prediction of a model's folds: uint8 crops (N, H, W, 3) → each attribute, class, as probabilities."""

    def __init__(self, predictor: Predictor, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.task = predictor.task
        models = [predictor.build_model(content, file, image_size) for content, file in predictor.checkpoints()]
        self.models = nn.ModuleList(model.to(memory_format=torch.contiguous_format) for model in models)
        self.heads, self.views = predictor.heads, predictor.tta_views
        self.shares = [1 / len(fold) / len(predictor.contents) for fold in predictor.contents for _ in fold]
        self.stats = [channel_stats(model, torch.device("cpu")) for model in models]
        bias = predictor.source.bias
        self.factors = None if bias is None else torch.tensor(np.exp(bias), dtype=torch.float32)
        self.requires_grad_(False).eval()

    @property
    def outputs(self) -> list[str]:
        """The names of what `forward` returns."""
        has_number = self.heads[0].num_columns > self.task.num_classes
        return [*self.task.names, "class", *(number_columns(self.task) if has_number else ())]

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        """Return each attribute (N, values), class (N, C); of a head over numbers also the number and its sd (N,)."""
        parts = []
        for model, head, share, stats in zip(self.models, self.heads, self.shares, self.stats, strict=True):
            views = self.views(normalize(crops, stats))
            parts.append(share * torch.stack([head.predict(model(view)) for view in views]).mean(0))
        columns = torch.stack(parts).sum(0)
        size = self.task.num_classes
        probs, moments = columns[:, :size], columns[:, size:].double()
        if self.factors is not None:
            scaled = probs.clamp_min(TINY) * self.factors
            probs = scaled / scaled.sum(1, keepdim=True)
        cube, axes = probs.reshape(-1, *self.task.shape), range(1, len(self.task.shape) + 1)
        others = [tuple(other for other in axes if other != axis) for axis in axes]
        answers = [*(cube.sum(dims) if dims else cube.clone() for dims in others), probs]
        if moments.shape[1]:
            deviation = (moments[:, 1] - moments[:, 0] ** 2).clamp_min(0).sqrt()
            answers += [moments[:, 0].float(), deviation.float()]
        return tuple(answers)


def network_graph(network: FoldMean, image_size: tuple[int, int]) -> Any:
    """Return the network as an ONNX model, from uint8 `crops` (batch, H, W, 3); ConfigError for a layer without one."""
    crops = torch.zeros(2, *image_size, 3, dtype=torch.uint8)
    own = {f"{name}.": name for name in network.outputs}  # with a dot, unlike values within the graph
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network, (crops,), input_names=["crops"], output_names=list(own), opset_version=OPSET,
                dynamic_shapes={"crops": {0: torch.export.Dim("batch")}}, dynamo=True, verbose=False,
            )  # fmt: skip
        model = program.model_proto  # type: ignore[union-attr]
        rename_values(model.graph, own | {name: f"{name}.inner" for name in network.outputs})
        return model
    except Exception as error:  # the exporter raises arbitrary errors
        raise ConfigError(f"ONNX cannot express this model: {export_reason(error)}. Use format=timm") from error


def rename_values(graph: Any, names: Mapping[str, str]) -> None:
    """Rename values of a graph without subgraphs."""
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(name, name) for name in values]
    for value in (*graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)


def export_reason(error: BaseException) -> str:
    """Return the innermost reason of an error of torch's exporter, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


def crop_graph(component: Component) -> Any:
    """Return a crop as an ONNX model: uint8 photos (batch, height, width, 3) → crops; ConfigError if ONNX has none."""
    check_crop(component)
    if component.builder is crop.center:
        return center_graph(component.params["height"], component.params["width"], *crop.output_size(component))
    return resize_graph(*crop.output_size(component))


def check_crop(component: Component) -> None:
    """Raise ConfigError for a crop that a graph cannot do as ours does, to the bit."""
    remedy = "Set input=crops: the graph then takes images that are cropped already"
    if "detector" in component.params:
        raise ConfigError(f"crop={component.name} needs a face detector, which the graph cannot contain. {remedy}")
    if component.params.get("clahe"):
        raise ConfigError(f"crop.clahe={component.params['clahe']:g}: ONNX has no CLAHE. {remedy}")
    if component.builder not in (crop.resize, crop.center):
        raise ConfigError(f"crop={component.name} cannot be expressed in ONNX. {remedy}")


def resize_graph(height: int, width: int) -> Any:
    """Return the resizing to (height, width), equal to imaging.resize to the bit."""
    import onnx
    from onnx import inliner

    text = (resources.files("maskcls.inference") / "resize.onnxtxt").read_text(encoding="utf-8")
    sized = text.replace("@H", str(height)).replace("@W", str(width))
    return inliner.inline_local_functions(onnx.parser.parse_model(sized))


CENTER = """
<ir_version: 8, opset_import: ["" : 18]>
center (uint8[batch, height, width, 3] photos) => (uint8[batch, {h}, {w}, 3] cut)
<int64[2] size = {{{h}, {w}}}, int64[2] two = {{2, 2}}, int64[2] axes = {{1, 2}}>
{{
  shape = Shape <start = 1, end = 3> (photos)
  margins = Sub (shape, size)
  begin = Div (margins, two)
  end = Add (begin, size)
  part = Slice (photos, begin, end, axes)
  wanted = Constant <value = int64[4] {{0, {h}, {w}, 3}}> ()
  cut = Reshape <allowzero = 0> (part, wanted)
}}
"""


def center_graph(height: int, width: int, out_height: int, out_width: int) -> Any:
    """Return the center cut of (height, width), then resized; a photo that is too small is an error of onnxruntime.

    The 0 of Reshape keeps the number of photos; with -1, several photos that are too small would become one.
    """
    import onnx

    cut = onnx.parser.parse_model(CENTER.format(h=height, w=width))
    return cut if (height, width) == (out_height, out_width) else join(cut, resize_graph(out_height, out_width), "cut")


def join(first: Any, second: Any, name: str) -> Any:
    """Return two models as one: the only output of the first is the input `name` or `photos` of the second."""
    import onnx

    for model in (first, second):
        model.ir_version = max(first.ir_version, second.ir_version)
        del model.metadata_props[:]
    target = second.graph.input[0].name
    prefixed = onnx.compose.add_prefix(first, "crop_", rename_inputs=False, rename_outputs=False)
    return onnx.compose.merge_models(prefixed, second, io_map=[(name, target)])
