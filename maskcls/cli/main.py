"""The console script: `maskcls <command> key=value …`, the same as `python -m maskcls <command> key=value …`."""

from __future__ import annotations

import importlib
import sys
from importlib import metadata

from maskcls.cli.command import run_command
from maskcls.core.errors import ConfigError, unknown_message

COMMANDS = {
    "run": "train an experiment; with -m a sweep",
    "predict": "predict with finished runs, blended or alone",
    "reproduce": "climb the published ladders of results",
    "table": "show the ladders' results",
    "leakage": "measure what image-level folds promise",
    "options": "list config groups, options and parameters",
    "preview": "draw images on one contact sheet",
    "cache": "list or remove cached pixels",
    "sync": "send offline Weights & Biases records",
    "benchmark": "measure training speed",
}


@run_command
def main() -> None:
    """Run the command that the first argument names."""
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
    """Print every command with its line."""
    print("maskcls <command> key=value …\n")
    for name, line in COMMANDS.items():
        print(f"  maskcls {name:<11} {line}")
    print("\nmaskcls <command> --help shows a command's options.")
