"""Networks: any architecture of timm, with weights from a hub, a file or an installed package."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator
from torch import nn

from maskcls.core.errors import ConfigError, unknown_message
from maskcls.core.registry import Registry
from maskcls.core.schema import Proportion
from maskcls.storage.pretrained import hub_access, load_from_run, load_pretrained, resolve_weights
from maskcls.storage.run import Run, check_finished

registry = Registry("model")


def check_architecture(arch: str) -> str:
    """Return a name that timm knows."""
    import timm

    if not timm.is_model(arch):
        raise ValueError(unknown_message("timm architecture", arch, timm.list_models()))
    return arch


def weights(pretrained: bool | str) -> bool | str:
    """Return true, false or a source of weights that stands."""
    if isinstance(pretrained, str):
        resolve_weights(pretrained)
    return pretrained


@registry.register
def timm_(
    outputs: int,
    height: int,
    width: int,
    fold: int = 0,
    *,
    arch: Annotated[str, AfterValidator(check_architecture)],
    pretrained: Annotated[bool | str, AfterValidator(weights)] = False,
    drop: Proportion = 0.0,
    drop_path: Proportion = 0.0,
    init: Annotated[str | None, AfterValidator(check_finished)] = None,
    frozen: list[str] = [],
    normalize: Literal["weights", "competition"] = "weights",
) -> nn.Module:
    """Return a timm model for photos of height × width pixels: uint8 values scaled to 0–1, normalised → (N, outputs).

    `pretrained` is true (the hub), false, a path, or package:<name>; `init` is a run
    whose same fold gives the weights to begin with; `frozen` holds patterns of parameter names, such
    as `blocks.0.*`. `normalize` takes mean and std of the weights' own training, or those of the competition's photos.
    """
    import timm

    wanted: dict[str, Any] = {"drop_rate": drop, "drop_path_rate": drop_path}
    known = {key: value for key, value in wanted.items() if value} | dynamic_size_args(arch)
    try:
        with hub_access(arch, pretrained is True):
            model = timm.create_model(arch, pretrained=pretrained is True, num_classes=outputs, **known)
    except TypeError as error:
        raise ConfigError(f"model {arch}: timm refuses {', '.join(known)}: {error}") from error
    if isinstance(pretrained, str):
        load_pretrained(model, resolve_weights(pretrained), arch)
    if init:
        load_from_run(model, Run(Path(init)).checkpoint_path(fold), arch)
    freeze(model, frozen)
    model.mean, model.std = normalization(model, normalize)
    return model


def dynamic_size_args(arch: str) -> dict[str, bool]:
    """Return the options that let a vision transformer take photos of any size."""
    import timm

    takes = timm.model_entrypoint(arch).__module__.rpartition(".")[2] in ("vision_transformer", "deit", "eva")
    return {"dynamic_img_size": True, "dynamic_img_pad": True} if takes else {}


def normalization(model: nn.Module, normalize: str) -> tuple[Any, Any]:
    """Return mean and std for each colour (red, green, blue) of values 0–1."""
    if normalize == "competition":
        return (0.548, 0.504, 0.479), (0.237, 0.247, 0.246)
    facts: Any = model.pretrained_cfg
    return tuple(facts["mean"]), tuple(facts["std"])


def freeze(model: nn.Module, patterns: list[str]) -> None:
    """Take the parameters that match a pattern (`blocks.0.*`, or a module's name) out of training."""
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        hits = {name for name in names if fnmatch(name, pattern) or name.startswith(f"{pattern}.")}
        if not hits:
            raise ConfigError(
                f"model.frozen: {unknown_message('parameter', pattern, {n.rsplit('.', 1)[0] for n in names})}"
            )
        for name, parameter in model.named_parameters():
            if name in hits:
                parameter.requires_grad = False
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"model.frozen: {patterns} leaves no parameter to train")


def set_train_mode(model: nn.Module) -> nn.Module:
    """Put a model in training mode; batch-norms whose parameters are all frozen keep their statistics."""
    model.train()
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and own and not any(p.requires_grad for p in own):
            module.eval()
    return model
