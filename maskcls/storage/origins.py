"""Digests of the weights and runs that a run depends on."""

from __future__ import annotations

from pathlib import Path

from maskcls.core.config import Config
from maskcls.storage.hub import find_in_cache
from maskcls.storage.pretrained import resolve_weights
from maskcls.storage.run import Run
from maskcls.system.file_digests import file_digest, joint_digest


def collect_origins(cfg: Config) -> dict[str, str]:
    """Return the digests of the weights and runs that a config depends on, by config key.

    Hub weights have no digest until they are in the hub's cache.
    """
    cache, model = Path(cfg.cache_dir), cfg.model.params
    paths = {"model.pretrained": find_weights(model.get("pretrained"), str(model.get("arch")))}
    digests = {key: file_digest(path, cache) for key, path in paths.items() if path is not None}
    if init := model.get("init"):
        digests["model.init"] = joint_digest(sorted(Path(init).glob("fold*/best.pt")), cache)
    for key, source in pseudo_sources(cfg).items():
        files = [Run(source).table_path, *sorted(source.glob("fold*/oof.npz"))]
        digests[key] = joint_digest(files, cache)
    return digests


def pseudo_sources(cfg: Config) -> dict[str, Path]:
    """Return the runs whose predictions are labels, by config key."""
    params = cfg.pseudo.params
    one = {"pseudo.run": Path(params["run"])} if params.get("run") else {}
    return one | {f"pseudo.runs[{i}]": Path(run) for i, run in enumerate(params.get("runs") or ())}


def find_weights(pretrained: bool | str | None, arch: str) -> Path | None:
    """Return the file of pretrained weights, None without pretrained weights or before their download."""
    if isinstance(pretrained, str):
        return resolve_weights(pretrained)
    return find_in_cache(arch) if pretrained else None
