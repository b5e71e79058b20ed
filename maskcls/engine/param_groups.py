"""Parameter groups of the optimizer, with their learning rates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from maskcls.core.config import Config
from maskcls.core.errors import ConfigError
from maskcls.storage.pretrained import classifier_prefixes


def build_param_groups(cfg: Config, model: nn.Module) -> list[Any]:
    """Return the parameters that are trained in any epoch: grouped by depth with layer_decay, the classifier apart with
    head_lr. A group's `lr_scale` is the factor of its learning rate.
    """  # fmt: skip
    with frozen_included(model, cfg.freeze_epochs is not None):
        groups = group_by_depth(cfg, model)
    if cfg.head_lr is None:
        return groups
    groups = groups if cfg.layer_decay is not None else [{"params": groups}]
    return list(split_classifier(groups, classifier(cfg, model), cfg.head_lr / cfg.optimizer.params["lr"]))


def group_by_depth(cfg: Config, model: nn.Module) -> list[Any]:
    """Return the trainable parameters, as groups with layer_decay."""
    if cfg.layer_decay is None:
        return [parameter for parameter in model.parameters() if parameter.requires_grad]
    from timm.optim import param_groups_layer_decay

    decay = cfg.optimizer.params["weight_decay"]
    return param_groups_layer_decay(model, decay, weight_decay_exclude_1d=False, layer_decay=cfg.layer_decay)


def classifier(cfg: Config, model: nn.Module) -> set[nn.Parameter]:
    """Return the trainable parameters of the classifier; ConfigError if there are none."""
    if not hasattr(model, "pretrained_cfg"):
        what = f"head_lr={cfg.head_lr} needs a pretrained_cfg of model={cfg.model.name} that names its classifier"
        raise ConfigError(f"{what}. Remove head_lr")
    prefixes = classifier_prefixes(model)
    found = {p for name, p in model.named_parameters() if name.startswith(prefixes) and p.requires_grad}
    if not found:
        message = f"head_lr={cfg.head_lr} has no effect: model.frozen freezes the classifier. Remove one of them"
        raise ConfigError(message)
    return found


def split_classifier(
    groups: Sequence[dict[str, Any]], own: set[nn.Parameter], lr_scale: float
) -> Iterator[dict[str, Any]]:
    """Yield the groups without the classifier, each followed by its part of the classifier with its own factor."""
    for group in groups:
        body, head = ([p for p in group["params"] if (p in own) == is_head] for is_head in (False, True))
        if body:
            yield {**group, "params": body}
        if head:
            yield {**group, "params": head, "lr_scale": lr_scale}


@contextmanager
def frozen_included(model: nn.Module, is_included: bool) -> Iterator[None]:
    """Context manager in which frozen parameters count as trainable: they are trained in later epochs."""
    frozen = [parameter for parameter in model.parameters() if is_included and not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad = True
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad = False
