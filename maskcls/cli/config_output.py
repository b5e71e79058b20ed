"""Output of `--cfg job`: the complete config, as config.yaml of a run, with the chosen option above each group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from maskcls.config.config_folders import list_options, resource_dir
from maskcls.config.overrides import SWEEPS
from maskcls.core.errors import ConfigError, unknown_message


def output_flags(flags: Sequence[str]) -> list[str]:
    """Return Hydra's flags that belong to `--cfg job`; an empty list where Hydra itself prints or refuses."""
    if "--cfg=job" not in flags or SWEEPS & set(flags):
        return []
    return [flag for flag in flags if flag.partition("=")[0] in ("--cfg", "--package", "--resolve")]


def print_config(cfg: DictConfig, flags: Sequence[str], is_run: bool) -> None:
    """Print a composed config with all defaults, or the part `--package`; then raise ConfigError with its errors."""
    from maskcls.config.validation import fill_defaults, to_container, validate

    error, content = None, fill_defaults(to_container(cfg))
    if is_run:
        try:
            content = validate(cfg).to_dict()
        except ConfigError as invalid:
            error = invalid
    options = chosen_options(content)
    package = next((flag.partition("=")[2] for flag in flags if flag.startswith("--package=")), "_global_")
    if package == "_global_":
        print("".join(format_config(content, options)), end="")
    else:
        print(format_package(content, package, options), end="")
    if error:
        raise error


def chosen_options(content: Mapping[str, Any]) -> dict[str, str]:
    """Return {group: option} of ladders and groups as on the command line; a group's changed name is its option."""
    choices = {group: option for group, option in HydraConfig.get().runtime.choices.items() if option}
    ladders = {group: option for group, option in choices.items() if group in list_options(resource_dir("experiments"))}
    return ladders | {group: option_of(group, section, choices.get(group)) for group, section in content.items()
                      if isinstance(section, Mapping)}  # fmt: skip


def option_of(group: str, section: Mapping[str, Any], choice: str | None) -> str:
    """Return the chosen option of a section, or its name if an override has changed the name."""
    name = str(section.get("name"))
    file = resource_dir("conf") / group / f"{choice}.yaml"
    is_renamed = file.is_file() and yaml.safe_load(file.read_text(encoding="utf-8"))["name"] != name
    return name if choice is None or is_renamed else choice


def format_config(content: Mapping[str, Any], options: Mapping[str, str]) -> Iterator[str]:
    """Yield the YAML of a config in parts, each group after a comment with its option."""
    yield from (f"# {group}={option}\n" for group, option in options.items() if group not in content)
    for key, value in content.items():
        yield (f"# {key}={options[key]}\n" if key in options else "") + to_yaml({key: value})


def format_package(content: Mapping[str, Any], package: str, options: Mapping[str, str]) -> str:
    """Return the YAML of a part of a config, such as `loss`; raise ConfigError if there is no such part."""
    part = OmegaConf.select(OmegaConf.create(dict(content)), package)
    if part is None:
        raise ConfigError(unknown_message("package", package, content))
    body = to_yaml(OmegaConf.to_container(part)) if OmegaConf.is_config(part) else f"{part}\n"
    return f"# @package {package}\n" + (f"# {package}={options[package]}\n" if package in options else "") + body


def to_yaml(content: Any) -> str:
    """Return plain containers as YAML, with keys in their order."""
    from maskcls.storage.run import NoAliasDumper  # imports pandas

    return yaml.dump(content, Dumper=NoAliasDumper, sort_keys=False, allow_unicode=True)
