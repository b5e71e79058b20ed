"""Export of a trained model as one ONNX file: preprocessing, all folds, probabilities of each attribute."""

from __future__ import annotations

import json
from importlib import metadata as packages
from pathlib import Path
from typing import Any

from maskcls.components.crop import output_size
from maskcls.core.errors import ConfigError
from maskcls.inference.export_options import Input, Precision
from maskcls.inference.onnx_graph import OPSET, FoldMean, check_crop, crop_graph, join, network_graph
from maskcls.inference.onnx_precision import as_fp16, quantize
from maskcls.inference.predictor import Predictor
from maskcls.system.files import atomic_write
from maskcls.system.packages import import_package

FILE = "model.onnx"


def check_packages() -> None:
    """Raise ConfigError if a package that writes or runs ONNX is missing."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        import_package(name, "deploy", "format=onnx")


def check_exportable(predictor: Predictor, source: Input) -> tuple[int, int]:
    """Return the (height, width) of the network's input; ConfigError if a file cannot have the crop or names."""
    component = predictor.crop_component
    if taken := {"crops", "photos"} & {*predictor.task.names}:
        what = f"format=onnx: attribute {min(taken)} has the name of the file's input"
        raise ConfigError(f"{what}. Use format=timm, or give the attribute another name")
    if source == "photos":
        check_crop(component)
    size = output_size(component)
    if not min(size):
        what = f"crop={component.name} keeps the size of each image, and a file needs one size"
        raise ConfigError(f"{what}. Train with crop=resize or crop=center")
    return size


def export_onnx(predictor: Predictor, path: Path, source: Input, precision: Precision) -> dict[str, Any]:
    """Write a model as ONNX and return its metadata; images for int8 are training images of the run."""
    size = check_exportable(predictor, source)
    network = FoldMean(predictor, size)
    graph = network_graph(network, size)
    if precision == "int8":
        graph = quantize(graph, predictor)
    elif precision == "fp16":
        graph = as_fp16(graph)
    if source == "photos":
        graph = join(crop_graph(predictor.crop_component), graph, "crops")
    facts = describe(predictor, source, precision, size)
    write_model(graph, path, facts)
    return facts


def describe(predictor: Predictor, source: Input, precision: Precision, size: tuple[int, int]) -> dict[str, Any]:
    """Return the metadata of a file: what a user of it must know, as plain data."""
    model, crop, task = predictor.source, predictor.crop_component, predictor.task
    facts = {
        "run": model.name, "folds": len(predictor.files), "networks": sum(len(fold) for fold in predictor.contents),
        "precision": precision, "opset": OPSET, "input": source, "input_size": list(size),
        "layout": "uint8 RGB, (batch, height, width, 3)", "crop": {"name": crop.name, **crop.params},
        "tta": predictor.source.config.get("tta", {"name": "none"}), "decision": model.bias is not None,
        "classes": list(task.classes),
    }  # fmt: skip
    values: dict[str, Any] = {name: list(words) for name, words in task.values.items()}
    if values.keys() & {*facts, "attributes", "maskcls"}:  # an attribute that is named like a fact
        values = {"attributes": values}
    return facts | values | {"maskcls": packages.version("maskcls")}


def write_model(graph: Any, path: Path, facts: dict[str, Any]) -> None:
    """Write an ONNX model with metadata: all facts under `maskcls`, the run and the classes also by themselves."""
    import onnx

    graph.producer_name, graph.producer_version = "maskcls", facts["maskcls"]
    graph.doc_string = ""
    versions = {item.domain: item.version for item in graph.opset_import if item.domain != "maskcls"}  # it is inlined
    del graph.opset_import[:]
    graph.opset_import.extend(onnx.helper.make_opsetid(*item) for item in versions.items())
    values = {"maskcls": json.dumps(facts), "run": facts["run"], "classes": json.dumps(facts["classes"])}
    onnx.helper.set_model_props(graph, values)
    onnx.checker.check_model(graph)
    atomic_write(path, lambda file: file.write(graph.SerializeToString()))
