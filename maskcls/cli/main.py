"""Console script: `maskcls <command> key=value …`, the same as `python -m maskcls <command> key=value …`."""

from __future__ import annotations

import importlib
import sys
from importlib import metadata

from maskcls.cli.exit_codes import run_command
from maskcls.core.errors import ConfigError, unknown_message

COMMANDS = {
    "run": "train an experiment, or with -m a sweep",
    "tune": "search for the best settings",
    "conclude": "finish a stopped run with its best weights so far",
    "predict": "predict with runs, folds or checkpoints",
    "score": "score a file of predictions against true classes",
    "export": "write a model for others: ONNX or timm, with a card",
    "demo": "try photos in the browser",
    "reproduce": "train the published ladders of experiments",
    "table": "show the results of the ladders",
    "compare": "compare finished runs",
    "leaderboard": "show all runs of a folder, and compare any two on a page",
    "audit": "find labels that are likely wrong",
    "leakage": "compare folds of images with folds of people",
    "options": "list config groups, options and parameters",
    "data": "show what a data set holds",
    "preview": "write a contact sheet of images",
    "cache": "list or remove cached pixels",
    "sync": "send offline Weights & Biases records",
    "benchmark": "measure training speed",
}


@run_command
def main() -> None:
    """Run the command named by the first argument."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print_usage()
    elif name == "--version":
        print(f"maskcls {metadata.version('maskcls')}")
    elif name not in COMMANDS:
        raise ConfigError(unknown_message("command", name, COMMANDS))
    else:
        sys.argv = [f"maskcls {name}", *rest]
        importlib.import_module(f"maskcls.cli.{name}").main()


def print_usage() -> None:
    """Print the commands with their descriptions."""
    print("maskcls <command> key=value …\n")
    for name, line in COMMANDS.items():
        print(f"  maskcls {name:<11} {line}")
    print("\nmaskcls <command> --help shows a command's options.")
