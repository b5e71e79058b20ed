"""Published ladders: the rungs of experiments/<ladder>/, read from the heads of their files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from maskcls.cli import home
from maskcls.errors import ConfigError

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
    faithful: bool  # folds of images, as published: people stand on both sides
    members: tuple[str, ...]  # rungs whose runs are blended; empty: a run of its own
    init: str | None  # the rung whose weights it begins with

    @property
    def needs(self) -> tuple[str, ...]:
        """The rungs whose runs must stand before this one."""
        return self.members + ((self.init,) if self.init else ())


def rungs(ladder: str) -> list[Rung]:
    """Return a ladder's rungs, the lowest first."""
    found = [rung(file) for file in (home("experiments") / ladder).glob("*.yaml")]
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
        faithful=head.get("reading") == "faithful", members=tuple(re.findall(r"\w+", head.get("members", ""))),
        init=head.get("init"),
    )  # fmt: skip
