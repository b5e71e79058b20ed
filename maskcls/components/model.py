"""Models: any timm architecture, with weights from a hub, a file, an installed package or a run."""

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
    """Return the name of a timm architecture; ValueError if it is unknown."""
    import timm

    if not timm.is_model(arch):
        raise ValueError(unknown_message("timm architecture", arch, timm.list_models()))
    return arch


def check_weights(pretrained: bool | str) -> bool | str:
    """Return true, false or an existing source of weights."""
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
    pretrained: Annotated[bool | str, AfterValidator(check_weights)] = False,
    drop: Proportion = 0.0,
    drop_path: Proportion = 0.0,
    init: Annotated[str | None, AfterValidator(check_finished)] = None,
    frozen: list[str] = [],
    normalize: Literal["weights", "competition"] = "weights",
) -> nn.Module:
    """Return a timm model for height × width images, uint8 scaled to 0–1 and normalized → (N, outputs) logits.

    `pretrained` is true (the hub), false, a path or package:<name>; `init` is a finished run whose same fold provides
    the initial weights; `frozen` lists patterns of parameter names, such as `blocks.0.*`; `normalize` selects mean and
    std of the pretrained weights or of the competition's images.
    """
    import timm

    rates: dict[str, Any] = {"drop_rate": drop, "drop_path_rate": drop_path}
    options = {key: value for key, value in rates.items() if value} | dynamic_size_args(arch)
    try:
        with hub_access(arch, pretrained is True):
            model = timm.create_model(arch, pretrained=pretrained is True, num_classes=outputs, **options)
    except TypeError as error:
        raise ConfigError(f"model.arch={arch}: not supported with {', '.join(options)} ({error})") from error
    if isinstance(pretrained, str):
        load_pretrained(model, resolve_weights(pretrained), arch)
    if init:
        load_from_run(model, Run(Path(init)).checkpoint_path(fold), arch)
    freeze(model, frozen)
    model.mean, model.std = normalization(model, normalize)
    return model


def dynamic_size_args(arch: str) -> dict[str, bool]:
    """Return the options that let a vision transformer accept images of any size."""
    import timm

    is_dynamic = timm.model_entrypoint(arch).__module__.rpartition(".")[2] in ("vision_transformer", "deit", "eva")
    return {"dynamic_img_size": True, "dynamic_img_pad": True} if is_dynamic else {}


def normalization(model: nn.Module, normalize: str) -> tuple[Any, Any]:
    """Return mean and std per channel (red, green, blue) of values 0–1."""
    if normalize == "competition":
        return (0.548, 0.504, 0.479), (0.237, 0.247, 0.246)
    config: Any = model.pretrained_cfg
    return tuple(config["mean"]), tuple(config["std"])


def freeze(model: nn.Module, patterns: list[str]) -> None:
    """Freeze the parameters that match a pattern (`blocks.0.*`) or belong to a module of that name."""
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        matches = {name for name in names if fnmatch(name, pattern) or name.startswith(f"{pattern}.")}
        if not matches:
            raise ConfigError(
                f"model.frozen: {unknown_message('parameter', pattern, {n.rsplit('.', 1)[0] for n in names})}"
            )
        for name, parameter in model.named_parameters():
            if name in matches:
                parameter.requires_grad = False
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"model.frozen={patterns} leaves no trainable parameter")


def set_train_mode(model: nn.Module) -> nn.Module:
    """Set training mode; batch-norm layers whose parameters are all frozen stay in evaluation mode."""
    model.train()
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and own and not any(p.requires_grad for p in own):
            module.eval()
    return model
