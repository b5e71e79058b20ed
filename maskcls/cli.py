"""The command line: Hydra composes conf/, experiments/ and overrides; wrong words are sentences, not stack traces."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from maskcls.completion import print_script, set_typed_line
from maskcls.console import command, complain
from maskcls.errors import ConfigError, DataError, MaskclsError, RunError, explain_unresolved, mended
from maskcls.overrides import read_override, split_flags, typed_form
from maskcls.signals import await_signal
from maskcls.streams import prepare_streams

FLAGS_WITH_FOLDER = ("--config-dir", "-cd")
SWEEPS = {"-m", "--multirun", "hydra.mode=MULTIRUN"}


def home(name: str) -> Path:
    """Return conf/ or experiments/: inside an installed package, or at the top of the source tree."""
    inside = Path(__file__).parent / name
    return inside if inside.is_dir() else Path(__file__).parent.parent / name


class Experiments(SearchPathPlugin):
    """Lets Hydra find the ladders as groups (`hydra.searchpath` in a YAML would break glob sweeps)."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append experiments/ to the places where configs are looked for."""
        search_path.append("maskcls", f"file://{home('experiments')}")


def app(task: Callable[[Any], Any], config: str = "config") -> Callable[[], Any]:
    """Return the command that composes `config` with the command line and hands it to `task`, once for each job."""

    failed: list[MaskclsError] = []
    typed: list[str] = []

    @functools.wraps(task)
    def job(cfg: Any) -> Any:
        sys.argv = list(typed)  # what is kept of the command is what was typed, in a launcher's process too
        prepare_streams()
        try:
            return task(cfg)
        except BrokenPipeError:
            raise
        except Exception as error:
            if not isinstance(error, ConfigError | DataError):
                await_signal()
            return spared(mended(error), failed)

    @command
    def main() -> Any:
        """Compose and run, or end with the sentences of what failed."""
        typed[:] = sys.argv
        flags, words = split_flags(sys.argv[1:])
        completes = "--shell-completion" in flags
        if completes and print_script(words):
            return
        if completes:
            set_typed_line(lambda word: spelled([word]))
        Plugins.instance().register(Experiments)
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach this function whole
        line = words if completes else parse_overrides([*flags, *words], config)[len(flags) :]
        name_sweep([*flags, *line])
        with told(line, words):
            sys.argv[1:] = [*flags, *line]
            hydra.main(version_base="1.3", config_path=str(home("conf")), config_name=config)(job)()
        if len(failed) == 1:
            raise failed[0]
        if failed:
            raise RunError(f"{len(failed)} jobs of the sweep failed; each has said why")

    return main


def spared(error: MaskclsError, failed: list[MaskclsError]) -> float:
    """Keep a job's fault for the end, so that a sweep goes on; in a launcher's own process it is raised.

    A sweeper that asks for a score hears 0, the worst macro F1.
    """
    hydra_config = HydraConfig.get()
    sweeps = hydra_config.mode is RunMode.MULTIRUN
    if sweeps and "BasicLauncher" not in hydra_config.launcher["_target_"]:
        raise error
    if sweeps:
        complain(error, f"job {hydra_config.job.num} failed: ")
    failed.append(type(error)(*error.sentences))  # without its frames, which hold the job's model
    return 0.0


@contextlib.contextmanager
def told(line: Sequence[str] = (), typed: Sequence[str] = ()) -> Iterator[None]:
    """Make a sentence of what Hydra raises, about what was typed: for some overrides that is a bare assertion."""
    try:
        yield
    except Exception as error:
        place = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        if isinstance(error, OSError):  # of the machine: standard output, or the current folder
            raise
        if not isinstance(error, HydraException) and Path(hydra.__file__).parent not in place.parents:
            raise
        said = "" if isinstance(error, AssertionError) else typed_form(str(error), line, typed)
        raise ConfigError(said or "an override cannot be read: it is key=value") from error


def compose(*overrides: str, config: str = "config") -> DictConfig:
    """Return the config that a command line with these overrides would compose, from Python."""
    Plugins.instance().register(Experiments)
    words = parse_overrides(list(overrides), config)
    with told(words, overrides), hydra.initialize_config_dir(str(home("conf")), version_base="1.3"):
        whole = hydra.compose(config, words, return_hydra_config=True)
    HydraConfig.instance().set_config(whole)  # the run's name is made of Hydra's choices
    try:
        return plain(whole)
    except OmegaConfBaseException as error:
        raise ConfigError(explain_unresolved(error)) from error


def plain(whole: DictConfig) -> DictConfig:
    """Return a composed config without Hydra's own part, its interpolations resolved."""
    content = {key: OmegaConf.to_container(whole[key], resolve=True) if OmegaConf.is_config(whole[key]) else whole[key]
             for key in whole if key != "hydra" and not OmegaConf.is_missing(whole, key)}  # fmt: skip
    return OmegaConf.create(content)


def parse_overrides(arguments: list[str], config: str = "config") -> list[str]:
    """Return Hydra's form of a command line; where an option is unknown, the config's other errors are reported too."""
    try:
        return spelled(arguments)
    except UnknownOptionError as error:
        raise ConfigError(*error.sentences, *others(error.valid, config)) from error


class UnknownOptionError(ConfigError):
    """Unknown options of groups; `valid` holds the overrides that can be composed without them."""

    def __init__(self, *sentences: str, valid: list[str]) -> None:
        super().__init__(*sentences)
        self.valid = valid


def spelled(arguments: list[str]) -> list[str]:
    """Return a command line in which any key may be set, so that the config's own check answers for it.

    The options of groups are checked here: UnknownOptionError.
    """
    words, ladders = groups(home("conf")), groups(home("experiments"))
    ladders["sweeps"] = set()  # files of W&B, none of which is a word here
    for folder in extra(arguments):
        for group, names in groups(folder).items():
            words.setdefault(group, set()).update(names)
    faults: list[str] = []
    result, right = [], []
    sweeps = bool(SWEEPS & set(arguments))
    for argument in arguments:
        try:
            readable = argument if argument.startswith("-") else read_override(argument, words | ladders, sweeps)
        except ConfigError as error:
            faults += error.sentences
            continue
        key = readable.partition("=")[0]
        bare = re.fullmatch(r"[A-Za-z_][\w.]*", key) and key.split(".")[0] != "hydra"
        result.append(("+" if key in ladders else "++") + readable if bare and key not in words else readable)
        right += [argument] if bare else []
    if faults:
        raise UnknownOptionError(*faults, valid=[] if sweeps else right)
    return result


def others(right: list[str], config: str) -> tuple[str, ...]:
    """Return the faults of an experiment's config besides those of its overrides; none where nothing composes."""
    if config != "config" or not right:
        return ()
    from maskcls.config import checked

    try:
        checked(compose(*right))
    except ConfigError as error:
        return error.sentences
    return ()


def name_sweep(arguments: list[str]) -> None:
    """Give the jobs of a sweep a name to share, by the environment, which any launcher hands on."""
    if SWEEPS & set(arguments):
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise ConfigError("torchrun runs one job: a sweep (-m) under it would hang at the second one")
        os.environ["MASKCLS_SWEEP"] = f"sweep-{hashlib.sha256(' '.join(arguments).encode()).hexdigest()[:8]}"


def groups(base: Path) -> dict[str, set[str]]:
    """Return {group: its words} of a folder of configs."""
    return {place.name: {file.stem for file in place.glob("*.yaml")} for place in base.iterdir()
            if place.is_dir() and any(place.glob("*.yaml"))}  # fmt: skip


def extra(arguments: list[str]) -> Iterator[Path]:
    """Yield the user's own folders of configs (--config-dir)."""
    for flag, value in zip(arguments, [*arguments[1:], ""], strict=False):
        name, _, joined = flag.partition("=")
        if name in FLAGS_WITH_FOLDER and Path(joined or value).is_dir():
            yield Path(joined or value)
