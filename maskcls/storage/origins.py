"""What a run begins from beside its photos: the contents of the weights and of the runs that its config names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskcls.core.config import Config
from maskcls.storage.pretrained import resolve_weights
from maskcls.storage.run import Run
from maskcls.system.file_digests import file_digest, joint_digest


def collect_origins(cfg: Config) -> dict[str, str]:
    """Return the digest of each file of weights and each run that a config begins from, by its key.

    Weights of a hub have none until they are in its cache.
    """
    cache, model = Path(cfg.cache_dir), cfg.model.params
    found = {"model.pretrained": find_weights(model.get("pretrained"), str(model.get("arch")))}
    digests = {key: file_digest(path, cache) for key, path in found.items() if path is not None}
    if init := model.get("init"):
        digests["model.init"] = joint_digest(sorted(Path(init).glob("fold*/best.pt")), cache)
    if source := cfg.pseudo.params.get("run"):
        files = [Run(Path(source)).table_path, *sorted(Path(source).glob("fold*/oof.npz"))]
        digests["pseudo.run"] = joint_digest(files, cache)
    return digests


def find_weights(pretrained: bool | str | None, arch: str) -> Path | None:
    """Return the file that pretrained weights are read from, None where there is none or it is still to be fetched."""
    if isinstance(pretrained, str):
        return resolve_weights(pretrained)
    return find_in_hub(arch) if pretrained else None


def find_in_hub(arch: str) -> Path | None:
    """Return the file of an architecture's weights in the hub's cache."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    facts: Any = timm.get_pretrained_cfg(arch)
    names = ("model.safetensors", "pytorch_model.bin") if facts is not None and facts.hf_hub_id else ()
    files = [try_to_load_from_cache(facts.hf_hub_id, name) for name in names]
    return next((Path(file) for file in files if isinstance(file, str)), None)
