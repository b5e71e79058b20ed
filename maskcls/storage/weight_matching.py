"""Matching of weight files with a network: by name, by prefix, or in key order."""

from __future__ import annotations

import importlib.util
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskcls.system.safe_reading import open_file, read_tensors

STATE_DICT_KEYS = (  # of checkpoints; EMA weights first, as in timm
    "state_dict_ema", "model_ema", "ema_state_dict", "ema", "params_ema", "state_dict", "model_state_dict", "model",
    "net", "network", "params", "weights", "module",
)  # fmt: skip
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")  # of torch, anywhere in a name
Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Match:
    """Tensors of a file under the names of a network, and how they were matched."""

    tensors: dict[str, Tensor]
    method: str
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        unused = f"; {len(self.unused)} not used: {first_names(self.unused)}" if self.unused else ""
        return f"{len(self.tensors)} tensors loaded {self.method}{unused}"


def first_names(names: list[str]) -> str:
    """Return the first names of a list."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def package_dir(name: str) -> Path | None:
    """Return the folder of an installed package without importing it or its parents, or None."""
    top, *inner = name.split(".")
    try:
        spec = importlib.util.find_spec(top)  # a name without dots: imports nothing
        for part in inner:
            spec = spec and PathFinder.find_spec(part, spec.submodule_search_locations or [])
    except (ImportError, ValueError):  # not a valid name
        return None
    return Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else None


def read_content(file: Path) -> Any:
    """Return the content of a file of weights; no code in it is executed."""
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        open_file(file).close()
        return load_file(file)
    with torch.serialization.safe_globals([Namespace]):  # timm stores its arguments: plain values
        return read_tensors(file, legacy=True)


def find_state_dicts(content: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Weights]]:
    """Yield each state dict in a checkpoint, with its keys."""
    if not isinstance(content, Mapping) or not content:
        return
    if all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()):
        yield path, content
    elif len(path) < 2:
        for key, value in content.items():
            if "optim" not in str(key):
                yield from find_state_dicts(value, (*path, str(key)))


def choose_state_dict(content: object) -> tuple[str, Weights, list[str]]:
    """Return key and weights of a checkpoint's state dict, and the keys of others; ValueError if it is ambiguous."""
    sets = dict(find_state_dicts(content))
    paths = [path for path in sets if not path or set(path) & set(STATE_DICT_KEYS)] or list(sets)
    paths.sort(key=lambda path: min([STATE_DICT_KEYS.index(key) for key in path if key in STATE_DICT_KEYS], default=0))
    if not sets:
        raise ValueError("no named weights")
    if len(paths) > 1 and not set(paths[0]) & set(STATE_DICT_KEYS):
        names = first_names([".".join(path) for path in paths])
        raise ValueError(f"several sets of weights ({names}). Save a file with one of them")
    others = [".".join(path) for path in sets if path != paths[0]]
    return ".".join(paths[0]), sets[paths[0]], others


def match_weights(weights: Weights, expected: Weights, num_spare: int, is_ordered: bool) -> Match:
    """Return the file's tensor for each expected name; ValueError if some do not fit.

    Names match exactly or after a common prefix. If no name matches and the file is ordered, tensors match in key
    order; up to `num_spare` tensors of another classifier may follow.
    """
    weights = strip_wrappers(weights)
    counts = count_prefixes(weights, expected)
    if not counts:
        match = match_order(weights, expected, num_spare, is_ordered)
    else:
        prefix = choose_prefix(weights, expected, counts)
        matched = {name: weights[prefix + name] for name in expected}
        unused = [key for key in weights if not (key.startswith(prefix) and key.removeprefix(prefix) in expected)]
        match = Match(matched, f"by name{f' without the prefix {prefix!r}' if prefix else ''}", unused)
    check_values(match.tensors, expected)
    return match


def strip_wrappers(weights: Weights) -> Weights:
    """Return weights without the names of torch's wrappers."""
    stripped = {".".join(part for part in key.split(".") if part not in WRAPPERS): x for key, x in weights.items()}
    return stripped if len(stripped) == len(weights) else weights


def count_prefixes(weights: Weights, expected: Weights) -> Counter[str]:
    """Return how many expected names follow each prefix in the file."""
    counts: Counter[str] = Counter()
    for key in weights:
        parts = key.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in expected:
                counts["".join(f"{part}." for part in parts[:i])] += 1
    return counts


def choose_prefix(weights: Weights, expected: Weights, counts: Counter[str]) -> str:
    """Return the prefix after which all names and shapes match; the empty prefix wins."""
    differ = {prefix: find_differences(weights, expected, prefix) for prefix, _ in counts.most_common()}
    complete = sorted(prefix for prefix, names in differ.items() if not names)
    if not complete:
        first, *_ = names = min(differ.values(), key=len)
        raise ValueError(f"{len(names)} of {len(expected)} tensors differ, first {first}")
    if len(complete) > 1 and complete[0]:
        raise ValueError(f"names match after several prefixes ({first_names(complete)}). Save one set of weights")
    return complete[0]


def find_differences(weights: Weights, expected: Weights, prefix: str) -> list[str]:
    """Return the tensors that are missing after a prefix or have another shape."""
    return [
        compare_shapes(name, x, weights.get(prefix + name)) for name, x in expected.items()
        if prefix + name not in weights or weights[prefix + name].shape != x.shape
    ]  # fmt: skip


def compare_shapes(name: str, expected: Tensor, weights: Tensor | None) -> str:
    """Return expected and actual shape of a tensor."""
    got = "none" if weights is None else tuple(weights.shape)
    return f"{name} (expected {tuple(expected.shape)}, got {got})"


def match_order(weights: Weights, expected: Weights, num_spare: int, is_ordered: bool) -> Match:
    """Return the file's tensors in key order; ValueError unless shapes, modules and numbers agree with the network."""
    if not is_ordered:
        raise ValueError(f"all {len(expected)} names differ, and a .safetensors file has no key order")
    pairs = list(zip(expected, weights, strict=False))
    wrong = [compare_shapes(a, expected[a], weights[b]) for a, b in pairs if expected[a].shape != weights[b].shape]
    count = len(weights) - len(expected)
    if wrong or not 0 <= count <= num_spare:
        number = len(wrong) or abs(count)
        first = wrong[0] if wrong else f"expected {len(expected)} tensors, got {len(weights)}"
        raise ValueError(f"no name matches, and in key order {number} of {len(expected)} tensors differ, first {first}")
    if not is_same_order(pairs) or not is_ascending([key for _, key in pairs]):
        raise ValueError(f"no name matches, and the key order differs: none of the {len(expected)} tensors can be used")
    matched = {name: weights[key] for name, key in pairs}
    return Match(matched, "in key order, as no name matches", list(weights)[len(expected) :])


def is_same_order(pairs: list[tuple[str, str]]) -> bool:
    """Return True if the modules correspond one to one, with the same names of tensors."""
    halves = [(a.rpartition("."), b.rpartition(".")) for a, b in pairs]
    modules = {(a[0], b[0]) for a, b in halves}
    single = len(modules) == len({a for a, _ in modules}) == len({b for _, b in modules})
    return single and all(a[2] == b[2] for a, b in halves)


def is_ascending(keys: list[str]) -> bool:
    """Return True if numbered modules are in numeric order (sorted names have 10 before 2)."""
    last: dict[tuple[str, ...], int] = {}
    for key in keys:
        parts = tuple(key.split("."))
        for i, part in enumerate(parts):
            if part.isdecimal():
                if int(part) < last.get(parts[:i], 0):
                    return False
                last[parts[:i]] = int(part)
    return True


def check_values(matched: Weights, expected: Weights) -> None:
    """Raise ValueError for tensors of another type of number and for non-finite values."""
    for name, x in matched.items():
        if x.layout is not torch.strided or (x.is_floating_point(), x.is_complex()) != (
            expected[name].is_floating_point(), False,
        ):  # fmt: skip
            raise ValueError(f"{name}: expected {expected[name].dtype}, got {x.dtype}, {x.layout}")
        if x.is_floating_point() and not bool(x.float().isfinite().all()):
            raise ValueError(f"{name} has non-finite values")
