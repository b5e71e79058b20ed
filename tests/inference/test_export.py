"""maskcls export: the same probabilities by onnxruntime and by timm, a card, and one sentence for what cannot be done."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
import yaml
from conftest import TINY, environment
from timm.data import CustomDatasetInfo, create_transform, resolve_data_config

from maskcls import load
from maskcls.components import crop
from maskcls.components.hardware import cpu
from maskcls.components.model import registry
from maskcls.config.compose import compose
from maskcls.core.competition import MASK18
from maskcls.core.errors import MaskclsError
from maskcls.engine.runner import run as run_experiment
from maskcls.imaging.image_io import read_image
from maskcls.inference.demo import open_answer
from maskcls.inference.export import check_agreement, export
from maskcls.inference.export_check import noise_images
from maskcls.inference.export_options import ExportOptions
from maskcls.inference.onnx_model import OnnxModel
from maskcls.inference.predictor import Predictor
from maskcls.inference.timm_export import bare_predictor, load_predict
from maskcls.storage.run import Run
from maskcls.storage.trained_model import open_model

Command = Callable[..., subprocess.CompletedProcess[str]]


def train(drawn: Path, folder: Path, *words: str) -> Path:
    """Return the folder of a finished run of one epoch."""
    words = (*TINY, "epochs=1", f"data.root={drawn}", f"cache_dir={drawn}/cache", f"runs_dir={folder}/runs", *words)
    run_experiment(compose(*words))
    (place,) = (folder / "runs").glob("t-*")
    return place


def eval_photos(run: Path, people: Path) -> list[np.ndarray]:
    """Return all evaluation photos of a run on the tiny set."""
    files = {file.name: file for file in (people / "eval" / "images").iterdir()}
    return [read_image(str(files[Path(name).name])) for name in Run(run).eval_table["id"]]


@pytest.fixture(scope="module")
def exported(finished: tuple[list[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the finished run's ONNX export."""
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    return export(ExportOptions(str(finished[1]), out=str(folder), cache_dir=str(folder.parent / "cache")))


def test_timm_loads_the_folder_and_predicts_the_same(
    finished: tuple[list[str], Path], people: Path, tmp_path: Path
) -> None:
    run = finished[1]
    folder = export(ExportOptions(str(run), format="timm", fold=1, out=str(tmp_path / "t"), cache_dir=str(tmp_path)))
    assert sorted(file.name for file in folder.iterdir()) == ["card.md", "config.json", "model.safetensors"]
    assert "Macro F1 on" not in (folder / "card.md").read_text()  # of the few images that an fp32 export is compared on
    model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    predictor = load(run / "fold1")
    photos = eval_photos(run, people)
    crops = np.stack([predictor.crop_photo(photo) for photo in photos])
    mean, std = (torch.tensor(model.pretrained_cfg[key]) for key in ("mean", "std"))
    with torch.inference_mode():
        logits = model(((torch.from_numpy(crops) / 255 - mean) / std).permute(0, 3, 1, 2))
    mask, gender, age = (part.softmax(1) for part in logits.split([3, 2, 3], 1))
    probs = torch.einsum("nm,ng,na->nmga", mask, gender, age).flatten(1)
    assert np.abs(probs.numpy() - predictor(photos)).max() <= 1e-6


def with_option(run: Path, **options: Any) -> Path:
    """Return a run of hard links with other options in its config."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").unlink()
    (run / "config.yaml").write_text(yaml.safe_dump(config | options, sort_keys=False))
    return run


def test_timm_gets_the_bare_network_of_a_run_with_views_and_the_card_says_so(
    linked: tuple[list[str], Path], people: Path, tmp_path: Path
) -> None:
    run = with_option(linked[1], tta={"name": "flip"})
    folder = export(ExportOptions(str(run), format="timm", fold=0, out=str(tmp_path / "t"), cache_dir=str(tmp_path)))
    card = (folder / "card.md").read_text()
    assert "tta=flip, which this network does not contain" in card
    photos = eval_photos(run, people)
    own, bare = load(run / "fold0"), bare_predictor(open_model(run / "fold0"))
    network = load_predict(folder, own)(photos)
    assert np.abs(network - bare(photos)).max() <= 1e-6 < np.abs(network - own(photos)).max()


def test_timm_cannot_hold_a_decision(drawn: Path, tmp_path: Path) -> None:
    run = train(drawn, tmp_path, "split=holdout", "split.share=0.5", "decision=bias")
    message = options_error(str(run), format="timm", out=str(tmp_path / "t"))
    assert "cannot hold decision=bias" in message and "format=onnx" in message and not (tmp_path / "t").exists()
    folder = export(ExportOptions(str(run / "fold0"), format="timm", out=str(tmp_path / "t"), cache_dir=str(tmp_path)))
    assert "decision, which needs all folds" in (folder / "card.md").read_text()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_precision_passes_with_numbers_that_are_not_finite(
    precision: Any, value: float, finished: tuple[list[str], Path], tmp_path: Path
) -> None:
    options = ExportOptions(str(finished[1]), precision=precision, cache_dir=str(tmp_path), check=3)

    def broken(photos: list[Any]) -> np.ndarray:
        return np.full((len(photos), 18), value, np.float32)

    with pytest.raises(MaskclsError, match="not finite"):
        check_agreement(options, Predictor(open_model(finished[1]), cpu(), "fp32"), broken)


def test_an_export_of_weights_that_are_not_finite_is_not_written(linked: tuple[list[str], Path], tmp_path: Path) -> None:
    file = linked[1] / "fold0" / "best.pt"
    content = torch.load(file)
    file.unlink()
    torch.save(content | {"model": {key: part * float("nan") if part.is_floating_point() else part
                                    for key, part in content["model"].items()}}, file)  # fmt: skip
    message = options_error(str(linked[1]), format="timm", fold=0, out=str(tmp_path / "t"), cache_dir=str(tmp_path))
    assert "finite" in message and not (tmp_path / "t").exists()


@pytest.mark.parametrize("size", [(400, 200), (640, 480), (20, 900), (900, 20)])
def test_a_crop_takes_the_noise_that_stands_for_photos(size: tuple[int, int]) -> None:
    errors: list[str] = []
    component = crop.registry.check({"name": "center", "height": size[0], "width": size[1]}, errors)
    assert component is not None, errors
    assert {component.build()(image).shape for image in noise_images(component)} == {(*size, 3)}
    whole = crop.registry.check({"name": "none"}, errors)
    assert whole is not None and len({image.shape for image in noise_images(whole)}) == 1


def test_a_center_crop_without_its_photos_is_compared_on_noise_and_demonstrated(
    linked: tuple[list[str], Path], tmp_path: Path
) -> None:
    content = torch.load(linked[1] / "fold0" / "best.pt")
    file = tmp_path / "center.pt"
    torch.save(content | {"crop": {"name": "center", "height": 640, "width": 400, "out": [32, 24], "clahe": 0.0}}, file)
    folder = export(ExportOptions(str(file), format="timm", out=str(tmp_path / "t"), cache_dir=str(tmp_path)))
    assert "Compared with torch on 4 images" in (folder / "card.md").read_text()
    _, answer, _ = open_answer(str(file), "runs")
    with pytest.raises(MaskclsError, match="exceeds the image size 90 × 90"):
        answer(np.zeros((90, 90, 3), np.uint8))


PLUGIN = """
import torch
from maskcls.components.model import registry

@registry.register
def tiny_mlp(outputs, height, width, fold=0):
    \"\"\"Return a network of two layers.\"\"\"
    layers = [torch.nn.Flatten(), torch.nn.Linear(3 * height * width, 8), torch.nn.ReLU(), torch.nn.Linear(8, outputs)]
    model = torch.nn.Sequential(*layers)
    model.mean, model.std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    return model
"""


def test_a_network_of_a_plugin_is_demonstrated_and_timm_refuses_it(
    finished: tuple[list[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_mlp.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "builders", dict(registry.builders))
    content = torch.load(finished[1] / "fold0" / "best.pt")
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(32 * 24 * 3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8))
    torch.save(content | {"model": network.state_dict(), "model_word": {"name": "tiny_mlp"}}, tmp_path / "mlp.pt")
    options = {"out": str(tmp_path / "t"), "cache_dir": str(tmp_path)}
    with pytest.raises(MaskclsError, match="plugins="):
        export(ExportOptions("mlp.pt", format="timm", **options))  # type: ignore[arg-type]
    message = options_error("mlp.pt", format="timm", plugins=("my_mlp",), **options)
    assert "has a network of a plugin" in message and "format=onnx" in message
    answer = open_answer("mlp.pt", "runs")[1](np.zeros((64, 48, 3), np.uint8))
    assert answer.attention is None and "convolutional" in answer.note
    assert abs(answer.probs.sum() - 1) < 1e-5


def test_timm_reads_preprocessing_and_names_of_a_single_head(drawn: Path, tmp_path: Path) -> None:
    run = train(drawn, tmp_path, "head=single")
    folder = export(ExportOptions(str(run), format="timm", fold=0, out=str(tmp_path / "t"), cache_dir=str(tmp_path)))
    model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True)
    config = resolve_data_config({}, model=model)
    assert config["input_size"][1:] in ((32, 24), [32, 24]) and config["crop_mode"] == "squash"
    names = CustomDatasetInfo(model.pretrained_cfg["label_names"])
    assert [names.index_to_label_name(i) for i in range(18)] == list(MASK18.classes)
    pixels = create_transform(**config)(read_pil(drawn))
    assert tuple(pixels.shape) == (3, 32, 24)


def read_pil(drawn: Path) -> Any:
    """Return one drawn photo."""
    from PIL import Image

    return Image.open(next(drawn.glob("people-*/train/images/*/normal.*"))).convert("RGB")


def options_error(*arguments: Any, **options: Any) -> str:
    """Return the message with which an export is refused."""
    with pytest.raises(MaskclsError) as caught:
        export(ExportOptions(*arguments, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_exported_is_one_sentence(linked: tuple[list[str], Path], tmp_path: Path) -> None:
    run = str(linked[1])
    assert "holds one network" in options_error(run, format="timm", out=str(tmp_path / "a"))
    assert "fold=7" in (message := options_error(run, fold=7)) and "has folds 0, 1" in message
    assert "precision=int8" in options_error(run, format="timm", fold=0, precision="int8")
    assert "input=crops" in options_error(run, format="timm", fold=0, input="crops")
    (tmp_path / "file").write_text("")
    assert "is a file" in options_error(run, out=str(tmp_path / "file"))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "model.onnx").write_text("mine")
    assert "overwrite=true" in options_error(run, out=str(tmp_path / "b"))
    assert (tmp_path / "b" / "model.onnx").read_text() == "mine" and len(list((tmp_path / "b").iterdir())) == 1
    assert "unknown run" in options_error("nothing", runs_dir=str(linked[1].parent))


def test_a_run_that_is_not_done_exports_what_is_trained_or_says_that_nothing_is(
    linked: tuple[list[str], Path], tmp_path: Path
) -> None:
    run = linked[1]
    (run / "metrics.json").unlink()
    folder = export(ExportOptions(str(run), format="timm", fold=0, out=str(tmp_path / "t"), cache_dir=str(tmp_path)))
    assert "A part of a run" in (folder / "card.md").read_text() and "Scores" in (folder / "card.md").read_text()
    for k in (0, 1):
        shutil.rmtree(run / f"fold{k}")
    assert "is not finished and has no weights yet" in options_error(str(run), out=str(tmp_path / "u"))
    assert not (tmp_path / "u").exists()


def test_crops_that_onnx_cannot_do_are_refused_before_any_work(linked: tuple[list[str], Path], tmp_path: Path) -> None:
    run = linked[1]
    for file in run.glob("fold*/best.pt"):
        content = torch.load(file)
        file.unlink()
        torch.save(content | {"crop": {"name": "resize", "height": 32, "width": 24, "clahe": 2.0}}, file)
    message = options_error(str(run), out=str(tmp_path / "u"))
    assert "crop.clahe=2" in message and "input=crops" in message and not (tmp_path / "u").exists()


def test_the_command_names_wrong_options(command: Command) -> None:
    result = command("run=a", "presicion=int8", name="export")
    assert result.returncode == 2 and "did you mean 'precision'?" in result.stderr
    result = command("run=a", "format=tflite", name="export")
    assert result.returncode == 2 and "onnx" in result.stderr and "Traceback" not in result.stderr


def test_without_the_extra_one_sentence_names_it(finished: tuple[list[str], Path], tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "__init__.py").write_text("raise ImportError('no onnx here', name='onnx')")
    env = environment(PYTHONPATH=f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}")
    result = subprocess.run(
        [sys.executable, "-m", "maskcls", "export", f"run={finished[1]}"], cwd=tmp_path, env=env, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 2 and "pip install 'maskcls[deploy]'" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_onnx_predicts_every_evaluation_photo_in_batches_of_1_to_33(
    exported: Path, finished: tuple[list[str], Path], people: Path
) -> None:
    photos = np.stack(eval_photos(finished[1], people))
    photos = np.concatenate([photos, photos[:, :, ::-1]])[:33]
    reference = load(finished[1])(list(photos))
    model = OnnxModel(exported / "model.onnx")
    for size in range(1, 34):
        outputs = model.predict_pixels(np.ascontiguousarray(photos[:size]))
        assert np.abs(outputs["class"] - reference[:size]).max() <= 1e-5, size
        for name, part in zip(MASK18.names, MASK18.marginals(outputs["class"]), strict=True):
            assert np.abs(outputs[name] - part).max() <= 1e-6
    larger = np.random.default_rng(0).integers(0, 256, (2, 333, 201, 3), dtype=np.uint8)
    assert np.abs(model(list(larger)) - load(finished[1])(list(larger))).max() <= 1e-5


@pytest.mark.slow
def test_the_file_runs_without_this_package_and_says_what_it_is(exported: Path, finished: tuple[list[str], Path]) -> None:
    graph = onnx.load(exported / "model.onnx")
    assert [(item.domain, item.version) for item in graph.opset_import] == [("", 18)]
    assert not graph.functions and graph.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    session = onnxruntime.InferenceSession(str(exported / "model.onnx"))
    facts = json.loads(session.get_modelmeta().custom_metadata_map["maskcls"])
    assert facts["classes"] == list(MASK18.classes) and facts["run"] == finished[1].name and facts["folds"] == 2
    assert [output.name for output in session.get_outputs()] == ["mask", "gender", "age", "class"]
    head = yaml.safe_load((exported / "card.md").read_text().split("---")[1])
    assert head["pipeline_tag"] == "image-classification" and head["library_name"] == "onnx"
    scores = {one["name"]: one["value"] for one in head["model-index"][0]["results"][0]["metrics"]}
    assert scores["macro F1"] == round((Run(finished[1]).metrics() or {})["eval"]["f1"], 4)


@pytest.mark.slow
@pytest.mark.parametrize("words", [("head=years", "tta=flip"), ("head=single", "decision=bias", "tta=scales")])
def test_other_heads_views_and_decisions_are_in_the_file(
    words: tuple[str, ...], drawn: Path, people: Path, tmp_path: Path
) -> None:
    run = train(drawn, tmp_path, *words)
    photos = eval_photos(run, people)
    folder = export(ExportOptions(str(run), out=str(tmp_path / "o"), cache_dir=str(tmp_path)))
    outputs = OnnxModel(folder / "model.onnx").predict_pixels(np.stack(photos))
    predictor = load(run)
    assert np.abs(outputs["class"] - predictor(photos)).max() <= 1e-5
    if "head=years" in words:
        ages = predictor.predict_numbers(photos)
        assert np.abs(outputs["expected_age"] - ages[:, 0]).max() <= 1e-3
        assert np.abs(outputs["age_sd"] - ages[:, 1]).max() <= 1e-2


@pytest.mark.slow
def test_smaller_precisions_are_smaller_and_near(exported: Path, finished: tuple[list[str], Path], people: Path) -> None:
    photos, sizes = eval_photos(finished[1], people), [(exported / "model.onnx").stat().st_size]
    for precision, largest in (("fp16", 1e-3), ("int8", 0.05)):
        out = exported.parent / precision
        folder = export(ExportOptions(str(finished[1]), out=str(out), precision=precision, cache_dir=str(out)))  # type: ignore[arg-type]
        difference = np.abs(OnnxModel(folder / "model.onnx")(photos) - load(finished[1])(photos)).max()
        assert 0 < difference <= largest
        sizes.append((folder / "model.onnx").stat().st_size)
        assert "Macro F1 on 4 labelled people" in (folder / "card.md").read_text()
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.slow
def test_an_export_that_differs_from_torch_is_not_written(
    finished: tuple[list[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Predictor.__call__
    monkeypatch.setattr(Predictor, "__call__", lambda self, images: call(self, images) * np.float32(0.999))
    message = options_error(str(finished[1]), format="timm", fold=0, out=str(tmp_path / "t"), cache_dir=str(tmp_path))
    assert "differ from torch by up to" in message and not (tmp_path / "t").exists()


@pytest.mark.slow
def test_the_demo_page_answers_by_an_export(exported: Path, finished: tuple[list[str], Path], people: Path) -> None:
    name, answer, _ = open_answer(str(exported / "model.onnx"), "runs")
    (photo, *_) = eval_photos(finished[1], people)
    found = answer(photo)
    assert name == "model.onnx" and found.attention is None and found.crop.shape == (32, 24, 3)
    assert np.abs(found.probs - load(finished[1])(photo)[0]).max() <= 1e-5


def test_a_file_that_is_no_export_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    with pytest.raises(MaskclsError, match="is not an ONNX model"):
        OnnxModel(tmp_path / "a.onnx")
    with pytest.raises(MaskclsError, match="does not exist"):
        OnnxModel(tmp_path / "b.onnx")
    value = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 18]> g (float[n] x) => (float[n] y) { y = Abs (x) }')
    onnx.save(value, tmp_path / "c.onnx")
    with pytest.raises(MaskclsError, match="was not written by maskcls export"):
        OnnxModel(tmp_path / "c.onnx")
