"""Suggestions for unknown keys: among all keys, the parameters of all groups, and names in other libraries."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from maskcls.core.errors import nearest
from maskcls.core.registry import Registry
from maskcls.core.schema import option_fields

# Keys and their names in other libraries and in earlier versions. Parameters of a group are found without an entry.
ALIASES = {
    "augmentation": "aug augment augmentations transform train_transform",
    "average_epochs": "average swa",
    "batch_size": "batch batchsize bs train_batch_size per_device_train_batch_size",
    "grad_accum_steps": "accumulate accumulate_grad_batches grad_accum gradient_accumulation_steps",
    "clip_grad": "clip grad_clip gradient_clip_val max_grad_norm",
    "crop.height crop.width": "image_size img_size imgsz input_size resize resolution size",
    "data": "dataset",
    "data.root": "data_dir data_path dataset_path data_root",
    "ema": "ema_decay model_ema",
    "epochs": "max_epochs n_epochs num_epochs num_train_epochs",
    "eval_fraction": "exam",
    "folds": "k_fold k_folds kfold n_folds n_splits num_folds splits",
    "freeze_epochs": "freeze_epoch unfreeze_at_epoch unfreeze_backbone_at_epoch unfreeze_epoch",
    "hardware": "accelerator cuda device devices gpu gpus",
    "hardware.workers": "n_workers num_workers threads",
    "head_lr": "classifier_lr head_learning_rate lr_head",
    "logger": "wandb report_to",
    "logger.project": "logger.experiment wandb_project",
    "loss": "criterion loss_fn",
    "loss.class_weights": "loss.weights",
    "loss.label_smoothing": "smoothing",
    "mixing": "cutmix mixup",
    "mixing.prob": "mixing.p",
    "model": "net network",
    "model.arch": "arch_name architecture backbone encoder model_name",
    "model.drop_rate": "model.drop dropout",
    "model.drop_path_rate": "drop_path",
    "model.frozen": "freeze freeze_layers frozen_layers",
    "model.grad_checkpointing": "activation_checkpointing gradient_checkpointing",
    "model.init": "checkpoint ckpt ckpt_path resume",
    "name": "exp_name experiment experiment_name run_name",
    "optimizer": "optim",
    "optimizer.kwargs": "betas opt_args opt_betas opt_eps opt_kwargs",
    "optimizer.lr": "learning_rate max_lr",
    "optimizer.weight_decay": "wd",
    "patience": "early_stopping",
    "precision": "amp bf16 fp16 half mixed_precision",
    "runs_dir": "log_dir out_dir output output_dir save_dir",
    "scheduler": "lr_scheduler sched",
    "scheduler.floor": "eta_min min_lr",
    "scheduler.patience": "wait",
    "scheduler.pct_start": "rise",
    "scheduler.step_size": "every",
    "scheduler.warmup": "warmup_epochs",
    "seed": "manual_seed random_seed random_state",
    "size_schedule": "crop.schedule progressive_resize progressive_resizing",
    "split.share": "test_size val_ratio val_size",
}
KEY_OF_ALIAS = {name: key for key, names in ALIASES.items() for name in names.split()}


@dataclass(frozen=True)
class KeySuggester:
    """Keys of a config: the top-level keys, and the groups among them with their chosen options."""

    top: Collection[str]
    groups: Mapping[str, Registry]
    chosen: Mapping[str, str]

    def describe_unknown(self, key: str, value: Any) -> str:
        """Return the message for an unknown top-level key, with a suggestion."""
        match, is_section = self.find(key), isinstance(value, Mapping)
        for name in value if is_section and not nearest(key, self.top, cutoff=0.75) else ():
            if name != "name" and (inner := self.find_exact(str(name))):  # such as trainer.max_epochs
                key, match = f"{key}.{name}", inner
        hint = f"did you mean {match}?" if match else f"expected one of {', '.join(sorted(self.top))}"
        return f"unknown key {key!r}, {hint}"

    def find_elsewhere(self, path: str) -> str | None:
        """Return the quoted keys elsewhere that exactly match an unknown parameter (`group.name`)."""
        group, _, name = path.partition(".")
        found = self.find_exact(path) if path in KEY_OF_ALIAS else " or ".join(self.owners(name, [group]))
        return found or self.find_exact(name)

    def find(self, key: str) -> str | None:
        """Return the quoted key that matches exactly elsewhere, or else the closest one."""
        name = key.lower().replace("-", "_")
        if exact := self.find_exact(name):
            return exact
        options = [build for registry in self.groups.values() for build in registry.builders.values()]
        names = {*self.top, *KEY_OF_ALIAS, *(parameter for build in options for parameter in option_fields(build))}
        close = difflib.get_close_matches(name, sorted(names), n=5, cutoff=0.5)
        close.sort(key=lambda other: (-difflib.SequenceMatcher(None, other, name).ratio(), other not in self.top))
        return next(filter(None, map(self.find_exact, close)), None)

    def find_exact(self, name: str) -> str | None:
        """Return the quoted keys that exactly match a name."""
        if name in self.top:
            return f"'{name}'"
        target = KEY_OF_ALIAS.get(name, "")
        group, _, parameter = target.partition(".")
        if group in self.top and parameter.isidentifier():
            return " or ".join(self.owners(parameter, [group])) or None
        return f"'{target}'" if group in self.top else " or ".join(self.owners(name, self.groups)) or None

    def owners(self, name: str, groups: Collection[str]) -> Iterator[str]:
        """Yield each quoted `group.name`: of the chosen options, or else of the first other option that has it."""
        owners = {
            group: [option for option, build in self.groups[group].builders.items() if name in option_fields(build)]
            for group in groups
        }
        active = [group for group, options in owners.items() if self.chosen.get(group) in options]
        for group in active or [group for group, options in owners.items() if options]:
            yield f"'{group}.{name}'" + ("" if active else f" (of {group}={owners[group][0]})")
