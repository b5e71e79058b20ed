"""The stand-in for the server of Weights & Biases with one grid sweep: it gives jobs to agents and ends bad ones early."""

from __future__ import annotations

import itertools
import json
from typing import Any

import yaml
from wandbserver import PROJECT, Server

SWEEP = "s1"


class SweepServer(Server):
    """A stand-in that holds a sweep: the first agent without a run is given the next job, an agent without any ends.

    `early` names the runs that the sweep ends early: once they have sent so many values of its metric as its min_iter says.
    """

    def __init__(self, early: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.early, self.sweep = early, {}
        self.commands: list[dict[str, Any]] = []  # what agents were told
        self.waiting: list[dict[str, Any]] = []  # jobs that are not given yet
        self.summaries: dict[str, dict[str, Any]] = {}
        self.configs: dict[str, dict[str, Any]] = {}
        self.exit_codes: dict[str, int] = {}
        # wandb sends every 15 s otherwise
        self.variables |= {"WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1"}

    def reply(self, path: str, body: bytes) -> object:
        """Return what the real one would answer about its sweep, and about runs what the stand-in does."""
        if "graphql" not in path:
            return super().reply(path, body)
        query, variables = json.loads(body)["query"], json.loads(body).get("variables") or {}
        if "upsertSweep" in query:
            self.open_sweep(variables["config"])
            return {"data": {"upsertSweep": {"sweep": {"name": SWEEP, "project": {"id": "UA==", **PROJECT}}, "configValidationWarnings": []}}}
        if "SweepWithRuns" in query:
            return {"data": {"project": {"sweep": {"id": "Uw==", "name": SWEEP, "config": yaml.dump(self.sweep), "runs": {"edges": []}}}}}
        if "createAgent(" in query:
            return {"data": {"createAgent": {"agent": {"id": "QWc="}}}}
        if "agentHeartbeat" in query:
            commands = self.next_commands(json.loads(variables["runState"]))
            return {"data": {"agentHeartbeat": {"agent": {"id": "QWc="}, "commands": json.dumps(commands)}}}
        if "upsertBucket" in query and variables.get("config"):
            self.configs[variables["name"]] = json.loads(variables["config"])
        return super().reply(path, body)

    def open_sweep(self, config: str) -> None:
        """Lay out the jobs of a grid, r0, r1, …"""
        self.sweep = yaml.safe_load(config)
        names = list(self.sweep["parameters"])
        for i, values in enumerate(itertools.product(*(self.sweep["parameters"][name]["values"] for name in names))):
            args = {name: {"value": value} for name, value in zip(names, values, strict=True)}
            self.waiting.append({"type": "run", "run_id": f"r{i}", "program": self.sweep["program"], "args": args})

    def next_commands(self, running: dict[str, bool]) -> list[dict[str, Any]]:
        """Return what an agent with these runs is to do next."""
        told: list[dict[str, Any]] = [{"type": "stop", "run_id": name} for name in running if self.ends_early(name)]
        if not running:
            told = [self.waiting.pop(0)] if self.waiting else [{"type": "exit"}]
        self.commands += told
        return told

    def ends_early(self, name: str) -> bool:
        """Return True for a run of which the sweep has seen enough."""
        return name in self.early and len(self.curve(name)) >= self.sweep["early_terminate"]["min_iter"]

    def curve(self, name: str) -> list[float]:
        """Return the values of the sweep's metric that a run has sent."""
        lines = [json.loads(line) for _, line in sorted(self.history.get(name, {}).items())]
        return [line[self.sweep["metric"]["name"]] for line in lines if self.sweep["metric"]["name"] in line]

    def keep_history(self, name: str, content: dict[str, Any]) -> None:
        """Keep a run's history, its summary and its exit code."""
        super().keep_history(name, content)
        for line in ((content.get("files") or {}).get("wandb-summary.json") or {}).get("content", []):
            self.summaries[name] = json.loads(line)
        if content.get("complete"):
            self.exit_codes[name] = content.get("exitcode")
