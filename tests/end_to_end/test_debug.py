"""The debug experiments: each file composes, differs from the default, and takes a training step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from one_step import one_step

from maskcls.config.compose import compose
from maskcls.config.config_folders import resource_dir
from maskcls.config.validation import validate
from maskcls.data.assemble import assemble_table
from maskcls.data.pixel_cache import load_pixels

FILES = [f"debug={file.stem}" for file in sorted((resource_dir("experiments") / "debug").glob("*.yaml"))]


@pytest.mark.slow
@pytest.mark.parametrize("word", FILES)
def test_it_runs(word: str, tiny: list[str]) -> None:
    own = ("crop.", "model", "epochs", "name")
    cfg = validate(compose(word, *[given for given in tiny if not given.startswith(own)], "batch_size=2"))
    table = assemble_table(cfg, lambda note: None)
    numbers = one_step(cfg, table, load_pixels(table, cfg.crop, Path(cfg.cache_dir)))
    assert np.isfinite(numbers["loss"]) and 0 <= numbers["f1"] <= 1


@pytest.mark.parametrize("word", FILES)
def test_it_differs_from_the_default_and_bears_its_name(word: str) -> None:
    plain, tried = validate(compose("name=t")), validate(compose(word))
    assert tried.hashed_items() != plain.hashed_items()
    assert tried.name.startswith(word.split("=")[0])
