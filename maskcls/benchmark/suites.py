"""Benchmark suites: speed, start-up, scaling and time to a score."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskcls.benchmark.options import BenchmarkOptions
from maskcls.core.errors import ConfigError
from maskcls.system import console

if TYPE_CHECKING:
    from maskcls.benchmark.harness import Setting

SETTINGS = {
    "cpu": "mobilenetv3:200x100:32:24,resnet18:200x100:32:8,effnet_b4:400x200:4:6",
    "cuda": "mobilenetv3:200x100:32:60,resnet18:200x100:32:60,effnet_b4:400x200:32:30",
}
SMALL_SETTING = "mobilenetv3:100x50:32:1"  # kind=start and scale: a small network, so that other costs are visible


def machine_info() -> dict[str, Any]:
    """Return processor, cores, threads, GPU, load and package versions."""
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


def format_machine(info: Mapping[str, Any]) -> str:
    """Return the machine's description as one line."""
    return ", ".join(f"{key} {value}" for key, value in info.items())


def parse_settings(options: BenchmarkOptions, default: str) -> list[Setting]:
    """Return the settings of the options, or the default ones."""
    from maskcls.benchmark.harness import Setting

    return [Setting.parse(text) for text in (options.settings or default).split(",")]


def measure_speed(options: BenchmarkOptions, overrides: list[str]) -> dict[str, Any]:
    """Measure and print the contenders of each setting: rates, ratios, memory, and the parts of a step."""
    import torch

    default = SETTINGS["cuda" if torch.cuda.is_available() else "cpu"]
    results = []
    for setting in parse_settings(options, default):
        results.append(measure_setting(setting, options.rounds, overrides))
        print_setting(results[-1])
    return {"settings": results}


def measure_setting(setting: Setting, num_rounds: int, overrides: list[str]) -> dict[str, Any]:
    """Return the measurements of one setting."""
    from maskcls.benchmark import harness, profiling
    from maskcls.benchmark.baselines import CONTENDERS, contender_worker

    harness.check_overrides(overrides)
    with tempfile.TemporaryDirectory() as folder:
        overrides = [*overrides, f"cache_dir={folder}/cache", f"runs_dir={folder}/runs"]
        cfg = harness.setting_config(setting, overrides)
        cfg.data.build(console.info)  # drawing synthetic people is not timed
        first_batch = {state: profiling.time_first_batch(cfg, setting.steps) for state in ("cold", "warm")}
        contenders = {name: harness.Contender(contender_worker, name, setting, overrides) for name in CONTENDERS}
        rounds = harness.time_rounds(contenders, num_rounds, setting.steps * setting.batch)
        memory = {name: contender.end() for name, contender in contenders.items()}
        job = harness.build_job(cfg, setting.steps)
        steps = {
            cfg.optimizer.name: profiling.profile_step(job),
            "adamp package": profiling.profile_step(job, package=True),
        }
        evaluation = profiling.profile_evaluation(job)
    return {
        "setting": str(setting), "rounds": rounds,
        "rates": {name: harness.quartiles([row[name] for row in rounds]) for name in CONTENDERS},
        "ratios": {name: harness.ratios(rounds, "maskcls", name) for name in CONTENDERS if name != "maskcls"},
        "first_batch_s": first_batch, "memory_mb": memory, "step_ms": steps, "evaluation": evaluation,
        "precision": cfg.precision, "hardware": job.hardware.facts(),
    }  # fmt: skip


def print_setting(result: Mapping[str, Any]) -> None:
    """Print the measurements of one setting: a table of contenders, a table of step parts, and three times."""
    rows = []
    for name, rate in result["rates"].items():
        ratio = result["ratios"].get(name)
        memory = " + ".join(f"{value:.0f} {kind}" for kind, value in result["memory_mb"][name].items() if value)
        rows.append([name, format_quartiles(rate, 1), format_quartiles(ratio, 2) if ratio else "", memory])
    title = f"{result['setting']}: median (quartiles) of {len(result['rounds'])} rounds"
    console.print_table(title, ["loop", "images/s", "maskcls / loop", "peak MB"], rows)
    rows = [[name, *(f"{ms:.1f}" for ms in parts.values()), f"{sum(parts.values()):.1f}"]
            for name, parts in result["step_ms"].items()]  # fmt: skip
    head = ["optimizer", *next(iter(result["step_ms"].values())), "sum"]
    console.print_table("ms of a maskcls step, with the device synchronized after each part", head, rows)
    rate, ms = result["evaluation"].values()
    console.info(f"validation after each epoch: predictions at {rate:.1f} images/s, scores in {ms:.1f} ms")
    cold, warm = result["first_batch_s"].values()
    console.info(f"first batch: {cold:.2f} s with an empty cache, {warm:.2f} s with a full one")


def format_quartiles(values: Mapping[str, float], digits: int) -> str:
    """Return a median and its quartiles as text."""
    median, low, high = (f"{values[key]:.{digits}f}" for key in ("median", "low", "high"))
    return f"{median} ({low}–{high})"


def run_isolated(*arguments: str) -> dict[str, float]:
    """Run `maskcls benchmark` in its own process; return the JSON that it prints."""
    command = [sys.executable, "-m", "maskcls", "benchmark", *arguments]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if result.returncode:
        raise ConfigError(f"maskcls benchmark {' '.join(arguments)} failed: {result.stderr.strip()[-500:]}")
    return json.loads(result.stdout.splitlines()[-1])


def measure_startup(options: BenchmarkOptions, overrides: list[str]) -> dict[str, Any]:
    """Print the seconds from the start of a run to its first batch, for the first and the later jobs of a sweep."""
    from maskcls.benchmark.harness import quartiles
    from maskcls.benchmark.profiling import time_jobs

    (setting, *_) = parse_settings(options, SMALL_SETTING)
    first, *later = time_jobs(setting, overrides, options.rounds)
    stages = {name: quartiles([row[name] for row in later]) for name in first}
    rows = [[name, f"{first[name]:.2f}", format_quartiles(stages[name], 2)] for name in first]
    console.print_table("seconds to the first batch", ["stage", "first job", "later jobs: median (quartiles)"], rows)
    return {"setting": str(setting), "words": overrides, "first": first, "later": later}


def measure_scaling(options: BenchmarkOptions, overrides: list[str]) -> dict[str, Any]:
    """Print the costs of data sets of several sizes, each measured in its own process, and their ratio."""
    from maskcls.benchmark.scaling import enlarge_dataset

    (setting, *_) = parse_settings(options, SMALL_SETTING)
    results = []
    for min_images in options.images:
        with tempfile.TemporaryDirectory() as folder:
            num_images = enlarge_dataset(Path(folder) / "set", min_images, options.num_people, "data")
            console.info(f"measuring {num_images} images")
            results.append(run_isolated(
                "kind=size", f"settings={setting.to_text()}", "data=competition", f"data.root={folder}/set",
                f"cache_dir={folder}/cache", "crop=resize", f"crop.height={setting.height}",
                f"crop.width={setting.width}", *overrides,
            ))  # fmt: skip
    rows = [[name, *(f"{row[name]:.2f}" for row in results), f"{results[-1][name] / max(results[0][name], 1e-9):.1f}"]
            for name in results[0]]  # fmt: skip
    head = ["", *(f"{row['photos']:.0f} images" for row in results), "last / first"]
    console.print_table(f"{setting}: seconds and MB", head, rows)
    return {"setting": str(setting), "sizes": results}


def measure_size(options: BenchmarkOptions, overrides: list[str]) -> dict[str, float]:
    """Return the costs of one data set, measured in this process."""
    from maskcls.benchmark.harness import setting_config
    from maskcls.benchmark.scaling import measure_costs

    (setting,) = parse_settings(options, SMALL_SETTING)
    return measure_costs(setting_config(setting, overrides))


def measure_time(options: BenchmarkOptions, overrides: list[str]) -> dict[str, Any]:
    """Print the scores of the contenders on people set aside against their wall seconds."""
    from maskcls.benchmark.time_to_score import measure_time_to_score

    return measure_time_to_score(options, overrides)


SUITES = {
    "speed": measure_speed, "start": measure_startup, "scale": measure_scaling, "size": measure_size,
    "time-to-score": measure_time,
}  # fmt: skip
