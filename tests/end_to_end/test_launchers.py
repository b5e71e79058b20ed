"""Launchers of sweeps: submitit on this machine with a preemption, SLURM with a stand-in of sbatch, Ray on two nodes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from conftest import TINY, environment
from test_kills import kept

from maskcls.storage.run_files import read_history

Command = Callable[..., subprocess.CompletedProcess[str]]


def job_processes(folder: Path) -> list[int]:
    """Return the ids of submitit's jobs whose files lie in a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if "submitit.core._submit" in words and any(str(folder) in word for word in words):
            found.append(int(place.name))
    return found


def wait_for(found: Callable[[], object], process: subprocess.Popen[str], what: str) -> None:
    """Wait until something is found, while a process runs."""
    end = time.monotonic() + 300
    while not found():
        assert process.poll() is None and time.monotonic() < end, what
        time.sleep(0.05)


@pytest.mark.slow
def test_a_preempted_job_of_submitit_ends_at_the_next_batch_is_queued_again_and_gives_the_same_bytes(
    tiny: list[str], drawn: Path, tmp_path: Path, command: Command
) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs maskcls[slurm]")
    whole = command(*TINY, f"data.root={drawn}", f"cache_dir={drawn}/cache", "epochs=12", "runs_dir=whole")
    assert whole.returncode == 0, whole.stderr
    call = [sys.executable, "-m", "maskcls.run", "-m", *tiny, "epochs=12", "hydra/launcher=submitit_local"]
    with subprocess.Popen(
        call, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as sweep:
        wait_for(lambda: list(tmp_path.glob("runs/t-*/fold0/last.pt")), sweep, "no epoch was kept")
        (pid,) = job_processes(tmp_path)
        os.kill(pid, signal.SIGUSR2)
        output, _ = sweep.communicate(timeout=300)
    assert sweep.returncode == 0, output
    log = "\n".join(path.read_text() for path in (tmp_path / "runs" / ".submitit").rglob("*_log.out"))
    assert "this job is preempted" in log and re.search(r"fold \d: resuming after epoch", log), log
    (run,), (other,) = tmp_path.glob("runs/t-*/"), tmp_path.glob("whole/t-*/")
    assert kept(run) == kept(other) and len(read_history(run / "log.jsonl")) == 24
    (ledger,) = (tmp_path / "runs").glob("sweep-*.jsonl")
    entries = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert ["process" in entry for entry in entries] == [True, True, False] and entries[-1]["error"] is None


SBATCH = """#!{python}
import os, shutil, subprocess, sys
shutil.copy(sys.argv[-1], {log!r})
for task in range(2):
    out = open(os.path.join({folder!r}, f"task{{task}}.txt"), "w")
    names = {{"SLURM_JOB_ID": f"7{{task}}", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(task), "SLURM_PROCID": "0",
              "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_NODELIST": "here"}}
    subprocess.Popen(["bash", sys.argv[-1]], env=dict(os.environ, **names), stdout=out, stderr=out, start_new_session=True)
print("Submitted batch job 7")
"""
SRUN = """#!{python}
import os, sys
words = sys.argv[1:]
begin = next(i for i, word in enumerate(words) if os.path.basename(word).startswith("python"))
os.execv(words[begin], words[begin:])
"""
SACCT = """#!{python}
print("JobID|State|NodeList|")
for task in range(2):
    print(f"7_{{task}}|RUNNING|here|")
"""


@pytest.mark.slow
def test_the_batch_file_for_slurm_asks_for_what_its_config_says_and_its_jobs_run(
    tiny: list[str], tmp_path: Path, command: Command
) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs maskcls[slurm]")
    tools, log = tmp_path / "bin", tmp_path / "sbatch.sh"
    tools.mkdir()
    texts = {"sbatch": SBATCH, "sacct": SACCT, "srun": SRUN, "scontrol": "#!/bin/sh\n"}
    for name, text in texts.items():
        filled = text.format(python=sys.executable, log=str(log), folder=str(tmp_path)) if "{" in text else text
        (tools / name).write_text(filled)
        (tools / name).chmod(0o755)
    words = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=short", "hydra.launcher.mem_gb=7"]
    result = command("-m", *tiny, "epochs=1", "loss=ce,focal", *words, PATH=f"{tools}:{os.environ['PATH']}")
    assert result.returncode == 0, result.stderr + result.stdout
    script = log.read_text()
    for line in ("--partition=short", "--mem=7GB", "--time=240", "--gpus-per-node=1", "--cpus-per-task=8", "--array=0-1%2",
                 "--requeue", "--open-mode=append", "--signal=USR2@120"):  # fmt: skip
        assert f"#SBATCH {line}" in script, script
    assert len(list((tmp_path / "runs").glob("t-*/metrics.json"))) == 2 and "loss=focal" in result.stdout


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """Return the address of a Ray cluster of two nodes on this machine's loopback."""
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="needs maskcls[ray]")
    made = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    yield made.address
    made.shutdown()


@pytest.mark.slow
def test_the_jobs_of_a_sweep_run_on_two_nodes_of_ray(tiny: list[str], tmp_path: Path, cluster: str, command: Command) -> None:
    pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="needs maskcls[ray]")
    words = ["hydra/launcher=ray", f"hydra.launcher.ray.init.address={cluster}"]
    result = command("-m", *tiny, "epochs=1", "loss=ce,focal", *words)
    assert result.returncode == 0, result.stderr + result.stdout
    assert len(list((tmp_path / "runs").glob("t-*/metrics.json"))) == 2 and "loss=focal" in result.stdout


def test_every_launcher_has_a_config_with_its_package_and_extra() -> None:
    from maskcls.cli.sweep import LAUNCHER_EXTRAS
    from maskcls.config.config_folders import resource_dir

    files = {path.stem: path.read_text() for path in (resource_dir("conf") / "hydra" / "launcher").glob("*.yaml")}
    assert files.keys() == LAUNCHER_EXTRAS.keys()
    for name, text in files.items():
        assert f"maskcls[{LAUNCHER_EXTRAS[name]}]" in text and yaml.safe_load(text)["_target_"].startswith("hydra_plugins.")
