"""Ladders, published ones and `best`: the rungs of experiments/<ladder>/, read from the headers of their files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from maskcls.config.config_folders import resource_dir
from maskcls.core.errors import ConfigError

LADDERS = {
    "team": "EfficientNet-B4, from one split to three heads in five folds",
    "workflow": "from an untuned ResNet to an ensemble of three networks",
    "madgrad": "from VGG11 to EfficientNet-B4 with MADGRAD, fine-tuned with SGD",
    "tried": "what the first team tried without gain, each as one change of its recipe",
    "winner": "the first-placed recipe of a later year, with pseudo-labels in two stages",
    "best": "this project's own recipes",
}
HEADER = re.compile(r"^# (\w+): (.*)$", re.MULTILINE)
SCORE = re.compile(r"(F1|accuracy) ([\d.]+)")


@dataclass(frozen=True)
class Rung:
    """A step of a ladder: its change, its published scores, and how its runs are scored."""

    ladder: str
    name: str
    number: int
    change: str
    published: Mapping[str, float]  # f1 (0–1) and accuracy (%), if published
    claim: str  # the published statement without a score, such as "lower F1"; "" without one
    parent: str | None  # the rung whose config it inherits
    changes_network: bool  # against its parent
    is_ensemble: bool  # scored by the mean of the fold models, not by each of them
    as_published: bool  # image-level folds as published, with people in both training and validation
    members: tuple[str, ...]  # rungs whose runs are blended; empty: a run of its own
    init: str | None  # the rung whose weights it starts from
    pseudo: str | None  # the rung whose predictions of the evaluation set are its pseudo-labels
    requires: str | None  # environment variable that it needs
    note: str  # remark for its table
    command: str  # how to train or blend this rung

    @property
    def needs(self) -> tuple[str, ...]:
        """The rungs whose runs must be finished before this one."""
        return self.members + ((self.initial,) if self.initial else ())

    @property
    def initial(self) -> str | None:
        """The rung whose finished run it continues from, by weights or by pseudo-labels."""
        return self.init or self.pseudo

    def initial_overrides(self, path: str) -> tuple[str, ...]:
        """Return the overrides that name the run of the initial rung."""
        return (f"model.init={path}",) if self.init else ("pseudo=confident", f"pseudo.run={path}")


def load_rungs(ladder: str) -> list[Rung]:
    """Return a ladder's rungs, the lowest first."""
    ladder_rungs = [read_rung(file) for file in (resource_dir("experiments") / ladder).glob("*.yaml")]
    return sorted(ladder_rungs, key=lambda rung: rung.number)


def read_rung(file: Path) -> Rung:
    """Return the rung of a file from its config and its header, comment lines `# key: value`."""
    text = file.read_text(encoding="utf-8")
    header = dict(HEADER.findall(text))
    if missing := [key for key in ("rung", "change", "published") if key not in header]:
        raise ConfigError(f"{file}: the header lacks {', '.join(missing)}. Add the line `# {missing[0]}: …`")
    entries = yaml.safe_load(text).get("defaults", [])
    parents = [entry for entry in entries if isinstance(entry, str) and not entry.startswith(("/", "_self_"))]
    published = {key.lower(): float(value) for key, value in SCORE.findall(header["published"])}
    return Rung(
        ladder=file.parent.name, name=file.stem, number=int(header["rung"]), change=header["change"],
        published=published, claim="" if published or header["published"] == "–" else header["published"],
        parent=next(iter(parents), None),
        changes_network=any("override /model" in entry for entry in entries if isinstance(entry, dict)),
        is_ensemble=header.get("answer") == "ensemble",
        as_published=header.get("reading") == "faithful", members=tuple(re.findall(r"\w+", header.get("members", ""))),
        init=header.get("init"), pseudo=header.get("pseudo"), requires=header.get("requires"),
        note=header.get("note", ""), command=header.get("command", ""),
    )  # fmt: skip


def check_single_run(cfg: DictConfig) -> None:
    """Raise ConfigError if the overrides that Hydra composed last cannot be trained as a single run.

    This is a rung that blends the runs of other rungs, a rung that continues from another one without model.init or
    pseudo.run, or a search without a value of any of its parameters.
    """
    hydra = HydraConfig.get()
    for ladder in LADDERS:
        by_name = {rung.name: rung for rung in load_rungs(ladder)}
        rung = by_name.get(str(hydra.runtime.choices.get(ladder)))
        if rung and (reason := missing_run(rung, cfg)):
            raise ConfigError(
                f"{ladder}={rung.name} {reason}. Use {rung.command}, or train everything it needs with "
                f"maskcls reproduce ladder={ladder} rungs={rung.name} scale=full"
            )
    search = hydra.runtime.choices.get("search")
    searched = {str(key).lstrip("+") for key in [*(hydra.sweeper.get("params") or {}), *(cfg.get("space") or {})]}
    if search and not searched & {word.partition("=")[0].lstrip("+") for word in hydra.overrides.task}:
        raise ConfigError(
            f"search={search} is a search, not a single run. Use python -m maskcls tune search={search}, or "
            f"python -m maskcls.run -m search={search} for its grid; for one run of it, set its parameters"
        )


def missing_run(rung: Rung, cfg: DictConfig) -> str:
    """Return why a rung cannot be trained as a single run, "" if it can."""
    if rung.members:
        return f"blends the runs of {', '.join(rung.members)} and has no run of its own"
    if rung.init and cfg.model.get("init") is None:
        return f"starts from the weights of {rung.init}, but model.init is not set"
    if rung.pseudo and OmegaConf.is_missing(cfg.pseudo, "run"):
        return f"trains on the predictions of {rung.pseudo}, but pseudo.run is not set"
    return ""
