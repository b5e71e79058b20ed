"""Models: any timm architecture, with weights from a hub, a file, an installed package or a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, BeforeValidator
from torch import nn

from maskcls.core.errors import ConfigError, unknown_message
from maskcls.core.registry import Registry
from maskcls.core.schema import Proportion
from maskcls.storage.hub import hub_access
from maskcls.storage.pretrained import AUTO, classifier_prefixes, load_from_run, load_pretrained, resolve_weights
from maskcls.storage.run import Run, check_finished

registry = Registry("model")
BACKBONE = "backbone"  # pattern of all parameters but the classifier's
Patterns = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]


def check_architecture(arch: str) -> str:
    """Return the name of a timm architecture; ValueError if it is unknown."""
    import timm

    if not timm.is_model(arch):
        raise ValueError(unknown_message("timm architecture", arch, timm.list_models()))
    try:
        timm.get_pretrained_cfg(arch)
    except RuntimeError as error:  # resnet18.tag with an unknown tag
        known = timm.list_pretrained(f"{arch.partition('.')[0]}.*")
        raise ValueError(unknown_message("timm weights", arch, known)) from error
    return arch


def check_weights(pretrained: bool | str) -> bool | str:
    """Return true, false, auto or an existing source of weights."""
    if isinstance(pretrained, str) and pretrained != AUTO:
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
    drop_rate: Proportion = 0.0,
    drop_path_rate: Proportion = 0.0,
    init: Annotated[str | None, AfterValidator(check_finished)] = None,
    frozen: Patterns = [],
    grad_checkpointing: bool = False,
    normalize: Literal["weights", "competition"] = "weights",
) -> nn.Module:
    """Return a timm model for height × width images, uint8 scaled to 0–1 and normalized → (N, outputs) logits.

    Args:
        arch: name of a timm architecture, such as convnext_tiny
        pretrained: pretrained weights: true (the hub), false, auto (those that can be loaded), a path or package:<name>
        drop_rate: dropout rate before the classifier
        drop_path_rate: stochastic depth rate
        init: finished run whose same fold provides the initial weights
        frozen: patterns of parameter names that are not trained, such as blocks.0.*, or backbone
        grad_checkpointing: recompute activations in the backward pass: less memory for more time
        normalize: mean and std of the pretrained weights or of the competition's images
    """
    is_from_hub = pretrained is True and init is None  # the weights of `init` would replace the hub's
    model = create_network(arch, is_from_hub, outputs, drop_rate=drop_rate, drop_path_rate=drop_path_rate)
    if isinstance(pretrained, str):
        load_pretrained(model, resolve_weights(pretrained), arch)
    if pretrained or init:
        zero_classifier(model)
    if init:
        load_from_run(model, Run(Path(init)).checkpoint_path(fold), arch)
    freeze(model, frozen)
    if grad_checkpointing:
        enable_grad_checkpointing(model, arch)
    model.mean, model.std = normalization(model, normalize)
    return model


def create_network(arch: str, is_from_hub: bool, outputs: int, **rates: float) -> nn.Module:
    """Return timm's model for images of any size, with `outputs` logits and the dropout rates greater than 0."""
    import timm

    options: dict[str, Any] = {key: rate for key, rate in rates.items() if rate} | dynamic_size_args(arch)
    try:
        with hub_access(arch, is_from_hub):
            return timm.create_model(arch, pretrained=is_from_hub, num_classes=outputs, **options)
    except TypeError as error:
        raise ConfigError(f"model.arch={arch} does not accept {', '.join(options)} ({error})") from error


def zero_classifier(model: nn.Module) -> None:
    """Set the new classifier of a pretrained model to zero, so that training starts from equal probabilities.

    timm scales the initialization of an EfficientNet's classifier by the number of classes. With eight outputs the
    first loss is twice that of equal probabilities, and the steps that reduce it disturb the pretrained layers.
    """
    prefixes = classifier_prefixes(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(prefixes):
                parameter.zero_()


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
        matches = match_names(model, names, pattern)
        if not matches:
            raise ConfigError(
                f"model.frozen: {unknown_message('parameter', pattern, {n.rsplit('.', 1)[0] for n in names})}"
            )
        for name, parameter in model.named_parameters():
            if name in matches:
                parameter.requires_grad = False
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"model.frozen={patterns} leaves no trainable parameter")


def match_names(model: nn.Module, names: Iterable[str], pattern: str) -> set[str]:
    """Return the names that match a pattern, belong to a module of that name, or, for `backbone`, to no classifier."""
    if pattern == BACKBONE:
        return {name for name in names if not name.startswith(classifier_prefixes(model))}
    return {name for name in names if fnmatch(name, pattern) or name.startswith(f"{pattern}.")}


def unfreeze(model: nn.Module) -> bool:
    """Let all parameters be trained; return True if some were frozen."""
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad = True
    return bool(frozen)


def enable_grad_checkpointing(model: nn.Module, arch: str) -> None:
    """Let timm recompute activations in the backward pass; ConfigError if the architecture does not support it."""
    try:
        model.set_grad_checkpointing(True)  # type: ignore[operator]
    except (AttributeError, AssertionError, NotImplementedError) as error:
        what = f"timm's {arch} does not support gradient checkpointing"
        raise ConfigError(f"model.grad_checkpointing=true: {what}. Use a smaller batch_size") from error


def batch_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return the batch-norm layers."""
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


@contextmanager
def keep_statistics(model: nn.Module) -> Iterator[None]:
    """Context manager in which batch-norm layers do not update their statistics.

    A backward pass with gradient checkpointing repeats the forward pass, which would count each batch twice.
    """
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in batch_norms(model)]
    for norm, _, _ in before:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum, norm.num_batches_tracked = momentum, count


def set_train_mode(model: nn.Module) -> nn.Module:
    """Set training mode; batch-norm layers whose parameters are all frozen stay in evaluation mode."""
    model.train()
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and own and not any(p.requires_grad for p in own):
            module.eval()
    return model
