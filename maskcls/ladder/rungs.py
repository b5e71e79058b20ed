"""Published ladders: the rungs of experiments/<ladder>/, read from the heads of their files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from maskcls.config.overrides import resource_dir
from maskcls.core.errors import ConfigError

LADDERS = ("team", "workflow", "madgrad")
HEAD = re.compile(r"^# (\w+): (.*)$", re.MULTILINE)
SCORE = re.compile(r"(F1|accuracy) ([\d.]+)")


@dataclass(frozen=True)
class Rung:
    """A step of a ladder: what it changes, what was published for it, and which of its predictions are its answer."""

    ladder: str
    name: str
    number: int
    change: str
    published: Mapping[str, float]  # f1 (0–1) and accuracy (%), as far as they were told
    below: str | None  # the rung that it inherits from
    ensemble: bool  # the mean of the folds' models answers, not one of them alone
    as_published: bool  # folds of images, as published: people stand on both sides
    members: tuple[str, ...]  # rungs whose runs are blended; empty: a run of its own
    init: str | None  # the rung whose weights it begins with
    command: str  # what trains or blends it alone

    @property
    def needs(self) -> tuple[str, ...]:
        """The rungs whose runs must stand before this one."""
        return self.members + ((self.init,) if self.init else ())


def rungs(ladder: str) -> list[Rung]:
    """Return a ladder's rungs, the lowest first."""
    found = [rung(file) for file in (resource_dir("experiments") / ladder).glob("*.yaml")]
    return sorted(found, key=lambda one: one.number)


def rung(file: Path) -> Rung:
    """Return the rung of a file, whose comments `# key: value` tell what its config cannot."""
    text = file.read_text(encoding="utf-8")
    head = dict(HEAD.findall(text))
    if lacking := [key for key in ("rung", "change", "published") if key not in head]:
        raise ConfigError(f"{file}: a rung's head tells {', '.join(lacking)} as `# {lacking[0]}: …`")
    parents = [entry for entry in yaml.safe_load(text).get("defaults", []) if isinstance(entry, str)]
    figures = {key.lower(): float(value) for key, value in SCORE.findall(head["published"])}
    return Rung(
        ladder=file.parent.name, name=file.stem, number=int(head["rung"]), change=head["change"], published=figures,
        below=next((name for name in parents if name != "_self_"), None), ensemble=head.get("answer") == "ensemble",
        as_published=head.get("reading") == "faithful", members=tuple(re.findall(r"\w+", head.get("members", ""))),
        init=head.get("init"), command=head.get("command", ""),
    )  # fmt: skip


def check_single_run(cfg: DictConfig) -> None:
    """Raise a ConfigError where the words that Hydra composed last name what one run of `cfg` alone is not.

    That is a rung that blends other rungs' runs, one that begins with another's weights and was given none, and a grid
    of runs that is asked for as one.
    """
    hydra = HydraConfig.get()
    for ladder in LADDERS:
        known = {one.name: one for one in rungs(ladder)}
        one = known.get(str(hydra.runtime.choices.get(ladder)))
        if one and (one.members or (one.init and cfg.model.get("init") is None)):
            what = f"blends the runs of {', '.join(one.members)} and has none of its own"
            if one.init:
                what = f"begins with the weights of {one.init}: model.init is missing"
            raise ConfigError(
                f"{ladder}={one.name} {what}. Use {one.command}, or train all that it needs with "
                f"maskcls reproduce ladder={ladder} rungs={one.name} scale=full"
            )
    grid, word = hydra.sweeper.get("params"), hydra.runtime.choices.get("search")
    if grid and word and hydra.mode is not RunMode.MULTIRUN:
        raise ConfigError(f"search={word} is a grid of runs and not one. Use python -m maskcls.run -m search={word}")
