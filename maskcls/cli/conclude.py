"""Conclusion of a stopped run: it is finished with the best weights so far, and marked with the epochs of each fold.

maskcls conclude run=a-1234
"""

from __future__ import annotations

from dataclasses import dataclass

from maskcls.cli.arguments import options_command


@dataclass(frozen=True)
class ConcludeOptions:
    """Options of `maskcls conclude`."""

    run: str  # folder of the run, or its name in runs_dir; each fold must have completed an epoch
    runs_dir: str = "runs"  # folder of the runs
    plugins: tuple[str, ...] = ()  # modules to import, which the run was trained with


@options_command(ConcludeOptions)
def main(options: ConcludeOptions) -> None:
    """Conclude the run; heavy modules are imported here."""
    from maskcls.engine.conclusion import conclude

    conclude(options.run, options.runs_dir, options.plugins)
