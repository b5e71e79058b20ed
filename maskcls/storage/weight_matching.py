"""Weights of a file, found under the names and prefixes that training programs write, and matched with a network's."""

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

SETS = (  # keys under which checkpoints hold weights; a moving average first, as timm takes it
    "state_dict_ema", "model_ema", "ema_state_dict", "ema", "params_ema", "state_dict", "model_state_dict", "model",
    "net", "network", "params", "weights", "module",
)  # fmt: skip
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")  # of torch, anywhere in a name
Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Match:
    """Tensors of a file by the names of a network, and how they were found."""

    tensors: dict[str, Tensor]
    how: str
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        unused = f"; {len(self.unused)} not used: {shorten(self.unused)}" if self.unused else ""
        return f"{len(self.tensors)} tensors loaded {self.how}{unused}"


def shorten(names: list[str]) -> str:
    """Return the first names of a list."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def package_dir(name: str) -> Path | None:
    """Return the folder of an installed package; no code of it or of the packages around it is run."""
    top, *inner = name.split(".")
    try:
        spec = importlib.util.find_spec(top)  # of a name without dots: that imports nothing
        for part in inner:
            spec = spec and PathFinder.find_spec(part, spec.submodule_search_locations or [])
    except (ImportError, ValueError):  # of no name
        return None
    return Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else None


def read_content(file: Path) -> Any:
    """Return what a file of weights holds; nothing in it is unpickled as code."""
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        open_file(file).close()
        return load_file(file)
    with torch.serialization.safe_globals([Namespace]):  # the settings in a checkpoint of timm: plain values
        return read_tensors(file, legacy=True)


def find_sets(content: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Weights]]:
    """Yield each set of weights in a checkpoint, with the keys that lead to it."""
    if not isinstance(content, Mapping) or not content:
        return
    if all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()):
        yield path, content
    elif len(path) < 2:
        for key, value in content.items():
            if "optim" not in str(key):
                yield from find_sets(value, (*path, str(key)))


def choose_set(content: object) -> tuple[str, Weights, list[str]]:
    """Return the keys of a checkpoint's weights, the weights, and the keys of other sets; ValueError for no choice."""
    found = dict(find_sets(content))
    known = [path for path in found if not path or set(path) & set(SETS)] or list(found)
    known.sort(key=lambda path: min([SETS.index(key) for key in path if key in SETS], default=0))
    if not found:
        raise ValueError("no weights by name")
    if len(known) > 1 and not set(known[0]) & set(SETS):
        raise ValueError(f"several sets of weights ({shorten(['.'.join(path) for path in known])}): save one alone")
    others = [".".join(path) for path in found if path != known[0]]
    return ".".join(known[0]), found[known[0]], others


def match_weights(given: Weights, wanted: Weights, spare: int, ordered: bool) -> Match:
    """Return the file's tensor for each wanted name; a ValueError says what does not fit.

    Names are matched as they are or after a common prefix. Only where no name is known, and the file is ordered, key
    order decides; `spare` tensors of another last layer may then follow.
    """
    given = strip_wrappers(given)
    counts = count_prefixes(given, wanted)
    if not counts:
        match = match_order(given, wanted, spare, ordered)
    else:
        prefix = choose_prefix(given, wanted, counts)
        taken = {name: given[prefix + name] for name in wanted}
        unused = [key for key in given if not (key.startswith(prefix) and key.removeprefix(prefix) in wanted)]
        match = Match(taken, f"by name{f' without the prefix {prefix!r}' if prefix else ''}", unused)
    check_numbers(match.tensors, wanted)
    return match


def strip_wrappers(given: Weights) -> Weights:
    """Return weights without torch's wrappers in their names."""
    stripped = {".".join(part for part in key.split(".") if part not in WRAPPERS): x for key, x in given.items()}
    return stripped if len(stripped) == len(given) else given


def count_prefixes(given: Weights, wanted: Weights) -> Counter[str]:
    """Return for each prefix how many wanted names the file has after it."""
    counts: Counter[str] = Counter()
    for key in given:
        parts = key.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in wanted:
                counts["".join(f"{part}." for part in parts[:i])] += 1
    return counts


def choose_prefix(given: Weights, wanted: Weights, counts: Counter[str]) -> str:
    """Return the one prefix after which all wanted names and shapes are there, none before any."""
    differ = {prefix: differences(given, wanted, prefix) for prefix, _ in counts.most_common()}
    whole = sorted(prefix for prefix, names in differ.items() if not names)
    if not whole:
        first, *_ = names = min(differ.values(), key=len)
        raise ValueError(f"{len(names)} of {len(wanted)} tensors differ, first {first}")
    if len(whole) > 1 and whole[0]:
        raise ValueError(f"its names fit after several prefixes ({shorten(whole)}): save one set of weights alone")
    return whole[0]


def differences(given: Weights, wanted: Weights, prefix: str) -> list[str]:
    """Return what is missing after a prefix, or of another shape."""
    return [
        compare_shapes(name, x, given.get(prefix + name)) for name, x in wanted.items()
        if prefix + name not in given or given[prefix + name].shape != x.shape
    ]  # fmt: skip


def compare_shapes(name: str, wanted: Tensor, given: Tensor | None) -> str:
    """Return in words how a tensor differs."""
    got = "none" if given is None else tuple(given.shape)
    return f"{name} (expected {tuple(wanted.shape)}, got {got})"


def match_order(given: Weights, wanted: Weights, spare: int, ordered: bool) -> Match:
    """Return the file's tensors in key order, where kinds, shapes, modules and numbers say that it is the network's."""
    if not ordered:
        raise ValueError(f"all {len(wanted)} tensors differ in name, and a .safetensors file keeps no order")
    pairs = list(zip(wanted, given, strict=False))
    wrong = [compare_shapes(a, wanted[a], given[b]) for a, b in pairs if wanted[a].shape != given[b].shape]
    count = len(given) - len(wanted)
    if wrong or not 0 <= count <= spare:
        number = len(wrong) or abs(count)
        first = wrong[0] if wrong else f"{len(given)} in place of {len(wanted)}"
        raise ValueError(f"no name is known, and in key order {number} of {len(wanted)} tensors differ, first {first}")
    if not is_same_order(pairs) or not counts_up([key for _, key in pairs]):
        raise ValueError(f"no name is known, and its key order is another one: all {len(wanted)} tensors differ")
    taken = {name: given[key] for name, key in pairs}
    return Match(taken, "in key order, for no name is known", list(given)[len(wanted) :])


def is_same_order(pairs: list[tuple[str, str]]) -> bool:
    """Return True if each module of one side is one module of the other, with the same kinds of tensors."""
    halves = [(a.rpartition("."), b.rpartition(".")) for a, b in pairs]
    modules = {(a[0], b[0]) for a, b in halves}
    single = len(modules) == len({a for a, _ in modules}) == len({b for _, b in modules})
    return single and all(a[2] == b[2] for a, b in halves)


def counts_up(keys: list[str]) -> bool:
    """Return True if numbered modules come in the order of their numbers (sorted names have 10 before 2)."""
    last: dict[tuple[str, ...], int] = {}
    for key in keys:
        parts = tuple(key.split("."))
        for i, part in enumerate(parts):
            if part.isdecimal():
                if int(part) < last.get(parts[:i], 0):
                    return False
                last[parts[:i]] = int(part)
    return True


def check_numbers(taken: Weights, wanted: Weights) -> None:
    """Raise a ValueError for tensors that would be cast to another kind of number, or that are not finite."""
    for name, x in taken.items():
        if x.layout is not torch.strided or (x.is_floating_point(), x.is_complex()) != (
            wanted[name].is_floating_point(), False,
        ):  # fmt: skip
            raise ValueError(f"{name}: expected {wanted[name].dtype}, got {x.dtype}, {x.layout}")
        if x.is_floating_point() and not bool(x.float().isfinite().all()):
            raise ValueError(f"{name} holds values that are not finite")
