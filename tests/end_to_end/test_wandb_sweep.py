"""The sweep file of the repository with wandb's own command and agent: jobs, an early end, agents that are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import environment
from sweepserver import SWEEP, SweepServer

from maskcls.storage.checkpoint import load_checkpoint
from maskcls.storage.run import Run

FILE = Path(__file__).parents[2] / "experiments" / "sweeps" / "focal.yaml"
AGENT = """
import sys
from wandb import wandb_agent
from wandb.cli.cli import cli
wandb_agent.Agent.POLL_INTERVAL = 0.5  # seconds, otherwise 5
cli(sys.argv[1:])
"""
STRICT = ("agent", "--max-consecutive-failed-runs", "1", f"me/maskcls/{SWEEP}")  # one failed run ends the agent
LIMIT = 240  # seconds for an agent to end


def sweep_file(folder: Path, tiny: list[str], parameters: dict[str, list[Any]], **changed: Any) -> Path:
    """Write the repository's sweep with tiny runs, other values, and keys as its comment says."""
    content = yaml.safe_load(FILE.read_text(encoding="utf-8")) | changed
    words = [word for word in tiny if word != "logger=none" and not word.startswith("epochs=")]
    content["command"][-1:] = [*words, "logger.images=0", *content["command"][-1:]]
    content["parameters"] = {name: {"values": values} for name, values in parameters.items()}
    path = folder / "sweep.yaml"
    path.write_text(yaml.dump(content), encoding="utf-8")
    return path


def variables(server: SweepServer) -> dict[str, str]:
    """Return the environment of an agent, whose jobs are run by `python`."""
    return environment(**server.variables, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}", NETRC=os.devnull)


def create(server: SweepServer, file: Path) -> None:
    """Run `wandb sweep` on a file."""
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sweep", str(file)], cwd=file.parent, env=variables(server), capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0 and f"wandb agent me/maskcls/{SWEEP}" in done.stdout + done.stderr, done.stderr


@contextlib.contextmanager
def agent(server: SweepServer, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start `wandb agent` in a folder; its output goes to files there."""
    with (folder / "agent.txt").open("a+") as output:
        child = subprocess.Popen(
            [sys.executable, "-c", AGENT, *STRICT], cwd=folder, env=variables(server), stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            yield child
            child.wait(timeout=LIMIT)
        finally:
            jobs = jobs_of(child.pid) if child.poll() is None else []
            child.kill()
            child.wait()
            for job in jobs:
                os.killpg(job, signal.SIGKILL)


def jobs_of(process: int) -> list[int]:
    """Return the ids of an agent's runs, each of which leads a process group, and not of wandb's own process."""
    children = [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()]
    return [child for child in children if b"maskcls.run" in Path(f"/proc/{child}/cmdline").read_bytes()]


def wait_until(met: Callable[[], Any], child: subprocess.Popen[str]) -> None:
    """Wait until something is so, while a process is alive."""
    deadline = time.monotonic() + LIMIT
    while not met():
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


def epochs(run: Run) -> list[tuple[int, int]]:
    """Return fold and number of each epoch that a run has kept."""
    return [(row["fold"], row["epoch"]) for row in run.history()]


def closing_f1(run: Run) -> float:
    """Return the out-of-fold F1 of a finished run."""
    metrics = run.metrics()
    assert metrics
    return float(metrics["oof"]["f1"])


@pytest.mark.slow
def test_a_sweep_runs_its_jobs_and_one_that_it_ends_early_is_no_crash(tiny: list[str], tmp_path: Path) -> None:
    by_curve: dict[str, Any] = {"metric": {"name": "val/f1", "goal": "maximize"}, "early_terminate": {"type": "hyperband", "min_iter": 2}}
    file = sweep_file(tmp_path, tiny, {"loss.gamma": [1.5], "epochs": [1000, 1]}, **by_curve)
    with SweepServer(early=("r0",)) as server:
        create(server, file)
        with agent(server, tmp_path):
            pass
    said = (tmp_path / "agent.txt").read_text()
    assert [(command["type"], command.get("run_id")) for command in server.commands if command["type"] != "stop"] == [
        ("run", "r0"), ("run", "r1"), ("exit", None)], said  # fmt: skip
    assert {"type": "stop", "run_id": "r0"} in server.commands and "Traceback" not in said, said
    assert server.exit_codes == {"r0": 0, "r1": 0} and "failed run" not in said, said
    early, whole = sorted(map(Run, (tmp_path / "runs").glob("t-*")), key=lambda run: run.is_done)
    kept = load_checkpoint(early.path / "fold0" / "last.pt")["epoch"]
    assert not early.is_done and epochs(early) == [(0, epoch) for epoch in range(1, kept + 1)] and kept >= 2
    assert len(server.curve("r0")) - kept in (0, 1) and server.summaries["r0"]["val/f1"] == server.curve("r0")[-1]
    assert whole.is_done and server.summaries["r1"]["oof/f1"] == closing_f1(whole)
    assert server.configs["r1"]["loss"]["value"]["gamma"] == 1.5 and server.configs["r1"]["epochs"]["value"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("alone", [False, True], ids=["with its run", "alone"])
def test_a_killed_agent_that_is_started_again_goes_on_in_the_same_run_directory(alone: bool, tiny: list[str], tmp_path: Path) -> None:
    file = sweep_file(tmp_path, tiny, {"optimizer.lr": [0.001], "epochs": [12]})
    with SweepServer() as server:
        create(server, file)
        with agent(server, tmp_path) as child:
            wait_until(lambda: [*tmp_path.glob("runs/*/fold0/last.pt")], child)
            (job,) = jobs_of(child.pid)
            child.kill()
            child.wait()  # the system ends a stopped process whose parent dies
            os.killpg(job, signal.SIGSTOP if alone else signal.SIGKILL)
        first = server.commands[0]
        server.waiting.append(first | ({"run_id": "r1"} if alone else {"type": "resume"}))
        try:
            with agent(server, tmp_path) as child:
                if alone:  # its run trains on
                    wait_until(lambda: "trained by another process; waiting" in (tmp_path / "agent.txt").read_text(), child)
                    os.killpg(job, signal.SIGCONT)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job, signal.SIGKILL)
    said = (tmp_path / "agent.txt").read_text()
    (run,) = map(Run, (tmp_path / "runs").glob("t-*"))
    assert run.is_done and epochs(run) == [(fold, epoch) for fold in (0, 1) for epoch in range(1, 13)], said
    name = "r1" if alone else "r0"
    assert server.exit_codes[name] == 0 and server.steps(name) == list(range(25)), said
    assert server.summaries[name]["oof/f1"] == closing_f1(run)
