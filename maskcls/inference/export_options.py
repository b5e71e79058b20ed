"""Options of an export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from maskcls.core.schema import NonNegativeInt, PositiveInt

Format = Literal["onnx", "timm"]
Precision = Literal["fp32", "fp16", "int8"]
Input = Literal["photos", "crops"]


@dataclass(frozen=True)
class ExportOptions:
    """Options of `maskcls export`."""

    run: str  # folder of a run, its name in runs_dir, the folder of a fold, or a checkpoint
    format: Format = "onnx"  # onnx: one file with all folds; timm: a folder for timm.create_model, of one fold
    out: str | None = None  # folder to write; null: <run>-onnx or <run>-timm here
    fold: NonNegativeInt | None = None  # one fold; null: the mean of all folds
    precision: Precision = "fp32"  # fp32, fp16, or int8 (calibrated on training images); for format=onnx
    input: Input = "photos"  # photos: any size, the file crops them; crops: images cropped and resized already
    check: PositiveInt | None = None  # evaluation images compared with torch; null: 64, or all for fp16 and int8
    license: str = "unknown"  # licence of the weights, for the model card
    overwrite: bool = False  # replace the files of an earlier export
    runs_dir: str = "runs"  # folder of the runs
    cache_dir: str = "cache"  # folder of the digests of images
    plugins: tuple[str, ...] = ()  # modules to import, which the run was trained with
