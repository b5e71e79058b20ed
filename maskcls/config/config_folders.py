"""Folders of config files: of the package, and those that the command line names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

FLAGS_WITH_FOLDER = ("--config-dir", "-cd")


def resource_dir(name: str) -> Path:
    """Return the folder conf/ or experiments/ of the installed package or of the source tree."""
    package = Path(__file__).parent.parent
    return package / name if (package / name).is_dir() else package.parent / name


def list_options(base: Path) -> dict[str, set[str]]:
    """Return {group: options} of a config folder."""
    return {folder.name: {file.stem for file in folder.glob("*.yaml")} for folder in base.iterdir()
            if folder.is_dir() and any(folder.glob("*.yaml"))}  # fmt: skip


def config_dirs(arguments: list[str]) -> Iterator[Path]:
    """Yield the user's config folders (--config-dir)."""
    for flag, value in zip(arguments, [*arguments[1:], ""], strict=False):
        name, _, joined = flag.partition("=")
        if name in FLAGS_WITH_FOLDER and Path(joined or value).is_dir():
            yield Path(joined or value)
