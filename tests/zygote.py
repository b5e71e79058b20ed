"""A process that has imported all that a run needs and forks a run for each line it reads: real processes, quickly.

Lines in: {"words": [...], "log": file, "at": null or n, "command": "run"}. A forked run with an `at` kills itself (kill -9) just before
its n-th change of a file below the folders of runs and caches; without one it writes how many there were beside its log.
Lines out: the process id of each fork; to {"wait": pid}, its exit code, negative for a signal.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from conftest import environment

CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.truncate"}


class Zygote:
    """Forks runs from a process that has imported everything."""

    def __init__(self) -> None:
        call = [sys.executable, __file__]
        self.process = subprocess.Popen(
            call, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **order: object) -> int:
        """Send an order and return its answer."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, place: Path, words: list[str], at: int | None = None, command: str = "run") -> int:
        """Return the process id of a new run or other command, whose output goes to `log` in its place."""
        place.mkdir(exist_ok=True)
        return self.ask(words=words, log=str(place / "log"), at=at, command=command)

    def wait(self, pid: int) -> int:
        """Return the exit code of a run."""
        return self.ask(wait=pid)

    def close(self) -> None:
        """End the process."""
        self.process.communicate(timeout=30)

    def finish(self, place: Path, words: list[str]) -> None:
        """Run to the end, or fail with what the run said."""
        assert self.wait(self.start(place, words)) == 0, (place / "log").read_text()[-3000:]


class Strike:
    """An audit hook that counts the changes of files below some folders, and kills its process at one of them."""

    def __init__(self, at: int | None) -> None:
        self.at, self.seen = at, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in CHANGES or not any(part in str(arguments[0]) for part in ("/runs", "/cache")):
            return
        if event == "open" and not int(arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            return
        self.seen += 1
        if self.seen == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def child(order: dict[str, Any]) -> int:
    """Run the command, as `python -m maskcls.run` would, and return its exit code."""
    main = importlib.import_module(f"maskcls.cli.{order['command']}").main

    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(log, number)
    os.chdir(Path(order["log"]).parent)
    sys.argv = ["maskcls.run", *order["words"]]
    strike = Strike(order.get("at"))
    sys.addaudithook(strike)
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    Path(order["log"] + ".changes").write_text(str(strike.seen))
    sys.stdout.flush()
    return code


def serve() -> None:
    """Fork and wait as the lines ask."""
    import maskcls.engine.runner
    import maskcls.reporting.figures
    import maskcls.run
    import maskcls.search.tune  # noqa: F401

    for line in iter(sys.stdin.readline, ""):
        order = json.loads(line)
        if "wait" in order:
            print(os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1]), flush=True)
        elif pid := os.fork():
            print(pid, flush=True)
        else:
            code = 70
            try:
                code = child(order)
            finally:
                sys.stderr.flush()
                os._exit(code)


if __name__ == "__main__":
    serve()
