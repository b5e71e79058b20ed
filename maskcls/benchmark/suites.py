"""Benchmark suites: speed, start-up and scaling."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from maskcls.core.errors import ConfigError
from maskcls.core.schema import PositiveInt
from maskcls.system import console

SETTINGS = {
    "cpu": "mobilenetv3:200x100:32:24,resnet18:200x100:32:8,effnet_b4:400x200:4:6",
    "cuda": "mobilenetv3:200x100:32:60,resnet18:200x100:32:60,effnet_b4:400x200:32:30",
}
LARGE = "mobilenetv3:100x50:32:1"  # of start and scale: light, so that what is not the network's shows


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of `maskcls benchmark`."""

    kind: Literal["speed", "start", "scale", "size"] = "speed"  # suite: speed, start, scale; size is one size of scale
    settings: str | None = None  # model:HEIGHTxWIDTH:batch:steps, several separated by commas
    rounds: PositiveInt = 7  # rounds; each contender runs once per round
    images: tuple[PositiveInt, ...] = (1000, 4200)  # data set sizes of kind=scale
    num_people: PositiveInt = 100  # synthetic people of kind=scale
    out: str | None = None  # JSON file to write; null: experiments/results/bench/<machine>.json


def machine_info() -> dict[str, Any]:
    """Return what the figures are of: processor, cores, threads, versions, and how busy it was."""
    import torch

    from maskcls.components.hardware import cpu_name
    from maskcls.storage.provenance import git_commit

    versions = {name: metadata.version(name) for name in ("torch", "timm", "albumentations", "adamp")}
    return {
        "cpu": cpu_name() or platform.machine(), "cores": os.cpu_count(),
        "threads": torch.get_num_threads(), "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": round(os.getloadavg()[0], 2), "python": platform.python_version(),
        "maskcls": metadata.version("maskcls"), "commit": git_commit(), **versions,
    }  # fmt: skip


def line(facts: Mapping[str, Any]) -> str:
    """Return the machine in a line."""
    return ", ".join(f"{key} {value}" for key, value in facts.items())


def parse_settings(options: BenchmarkOptions, default: str) -> list[Any]:
    """Return the settings of the options, or the default ones."""
    from maskcls.benchmark.harness import Setting

    return [Setting.of(text) for text in (options.settings or default).split(",")]


def speed(options: BenchmarkOptions, overrides: list[str]) -> dict[str, Any]:
    """Race the contenders of each setting and print their rates, ratios, memory, and where a step goes."""
    import torch

    default = SETTINGS["cuda" if torch.cuda.is_available() else "cpu"]
    return {"settings": [measured(setting, options, overrides) for setting in parse_settings(options, default)]}


def measured(setting: Any, options: BenchmarkOptions, overrides: list[str]) -> dict[str, Any]:
    """Measure and print one setting."""
    from maskcls.benchmark import profiling
    from maskcls.benchmark.baselines import RIVALS, contender_worker
    from maskcls.benchmark.harness import (
        Contender,
        build_job,
        check_overrides,
        quartiles,
        ratios,
        setting_config,
        time_rounds,
    )
    from maskcls.benchmark.profiling import first_batch, profile_step

    check_overrides(overrides)
    with tempfile.TemporaryDirectory() as place:
        words = [*overrides, f"cache_dir={place}/cache", f"runs_dir={place}/runs"]
        cfg = setting_config(setting, words)
        cfg.data.build(console.info)  # drawing is no part of what is timed
        first = {state: first_batch(cfg, setting.steps)[1] for state in ("cold", "warm")}
        lanes = {name: Contender(contender_worker, name, setting, words) for name in RIVALS}
        rounds = time_rounds(lanes, options.rounds, setting.steps * setting.batch)
        memory = {name: lane.end() for name, lane in lanes.items()}
        job = build_job(cfg, setting.steps)
        steps = {cfg.optimizer.name: profile_step(job), "adamp package": profile_step(job, package=True)}
        evaluation = profiling.evaluation(job)
    result = {
        "setting": str(setting), "rounds": rounds, "rates": {n: quartiles([r[n] for r in rounds]) for n in RIVALS},
        "ratios": {n: ratios(rounds, "maskcls", n) for n in RIVALS if n != "maskcls"},
        "first_batch_s": first, "memory_mb": memory, "step_ms": steps, "evaluation": evaluation,
        "precision": cfg.precision, "hardware": job.hardware.facts(),
    }  # fmt: skip
    shown(result)
    return result


def spelled(setting: Any) -> str:
    """Return a setting as the command line has it."""
    return f"{setting.model}:{setting.height}x{setting.width}:{setting.batch}:{setting.steps}"


def shown(result: Mapping[str, Any]) -> None:
    """Print the two tables of a setting."""
    rows = []
    for name, rate in result["rates"].items():
        ratio = result["ratios"].get(name)
        memory = " + ".join(f"{value:.0f} {kind}" for kind, value in result["memory_mb"][name].items() if value)
        rows.append([name, spread(rate, 1), spread(ratio, 2) if ratio else "", memory])
    count = len(result["rounds"])
    head = ["loop", "images/s", "maskcls is … times as fast", "peak MB"]
    console.print_table(f"{result['setting']}: median of {count} rounds (quartiles)", head, rows)
    parts = [[name, *(f"{ms:.1f}" for ms in step.values()), f"{sum(step.values()):.1f}"]
             for name, step in result["step_ms"].items()]  # fmt: skip
    head = ["optimizer", *next(iter(result["step_ms"].values())), "sum"]
    console.print_table("ms of a maskcls step, waiting for the device after each part", head, parts)
    rate, ms = result["evaluation"].values()
    console.info(f"an epoch ends with predictions, {rate:.1f} images/s, and their scores, {ms:.1f} ms in all")
    cold, warm = result["first_batch_s"].values()
    console.info(f"first batch after {cold:.2f} s with an empty cache, {warm:.2f} s with a full one")


def spread(numbers: Mapping[str, float], digits: int) -> str:
    """Return a median and its quartiles in words."""
    median, low, high = (f"{numbers[key]:.{digits}f}" for key in ("median", "low", "high"))
    return f"{median} ({low}–{high})"


def run_isolated(*arguments: str) -> dict[str, float]:
    """Return what this command measures in a process of its own."""
    call = [sys.executable, "-m", "maskcls", "benchmark", *arguments]
    result = subprocess.run(call, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if result.returncode:
        raise ConfigError(f"bench: {' '.join(arguments)} failed: {result.stderr.strip()[-500:]}")
    return json.loads(result.stdout.splitlines()[-1])


def start(options: BenchmarkOptions, overrides: list[str]) -> dict[str, Any]:
    """Print the seconds from a run's beginning to its first batch: a sweep's first job, and its later ones."""
    from maskcls.benchmark import profiling
    from maskcls.benchmark.harness import quartiles

    (setting, *_) = parse_settings(options, LARGE)
    first, *later = profiling.start(setting, overrides, options.rounds)
    stages = {name: quartiles([row[name] for row in later]) for name in first}
    rows = [[name, f"{first[name]:.2f}", spread(stages[name], 2)] for name in first]
    console.print_table("seconds to the first batch", ["stage", "first job", "later jobs: median (quartiles)"], rows)
    return {"setting": str(setting), "words": overrides, "first": first, "later": later}


def scale(options: BenchmarkOptions, overrides: list[str]) -> dict[str, Any]:
    """Print what sets of several sizes cost, each measured in a process of its own, and how that grows."""
    (setting, *_) = parse_settings(options, LARGE)
    results = []
    for photos in options.images:
        with tempfile.TemporaryDirectory() as place:
            from maskcls.benchmark.scaling import enlarge_dataset

            count = enlarge_dataset(Path(place) / "set", photos, options.num_people, "data")
            console.info(f"measuring {count} photos")
            words = ["data=competition", f"data.root={place}/set", f"cache_dir={place}/cache", "crop=resize"]
            words += [f"crop.height={setting.height}", f"crop.width={setting.width}", *overrides]
            results.append(run_isolated("kind=size", f"settings={spelled(setting)}", *words))
    rows = [[name, *(f"{row[name]:.2f}" for row in results), f"{results[-1][name] / max(results[0][name], 1e-9):.1f}"]
            for name in results[0]]  # fmt: skip
    head = ["", *(f"{row['photos']:.0f} photos" for row in results), "last / first"]
    console.print_table(f"{setting}: seconds and MB", head, rows)
    return {"setting": str(setting), "sizes": results}


def size(options: BenchmarkOptions, overrides: list[str]) -> dict[str, float]:
    """Return the costs of one set, of this process alone."""
    from maskcls.benchmark.harness import setting_config
    from maskcls.benchmark.scaling import measure_costs

    (setting,) = parse_settings(options, LARGE)
    return measure_costs(setting_config(setting, overrides))


SUITES = {"speed": speed, "start": start, "scale": scale, "size": size}
