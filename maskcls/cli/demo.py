"""Page on this machine to try photos with a trained model: drop or take one, see what the model sees and answers.

maskcls demo run=a-1234                       a run, a fold's folder or a checkpoint
maskcls demo run=a-1234-onnx/model.onnx       an export
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from maskcls.cli.arguments import options_command
from maskcls.core.schema import PositiveFloat
from maskcls.system import console


@dataclass(frozen=True)
class DemoOptions:
    """Options of `maskcls demo`."""

    run: str  # folder of a run, its name in runs_dir, the folder of a fold, a checkpoint, or an .onnx file
    host: str = "127.0.0.1"  # address to listen on; 0.0.0.0: other machines reach the page, too
    port: Annotated[int, Field(ge=0, le=65535)] = 7860  # port to listen on; 0: any free one
    max_mb: PositiveFloat = 20.0  # largest photo, in megabytes
    runs_dir: str = "runs"  # folder of the runs
    plugins: tuple[str, ...] = ()  # modules to import, which the run was trained with


@options_command(DemoOptions)
def main(options: DemoOptions) -> None:
    """Serve the page until the command is stopped; heavy modules are imported here."""
    from maskcls.config.groups import GROUPS
    from maskcls.config.plugins import import_plugins
    from maskcls.inference.demo import open_answer
    from maskcls.inference.demo_server import LOCAL, DemoServer

    import_plugins(list(options.plugins), GROUPS)
    name, answer, task = open_answer(options.run, options.runs_dir)
    with DemoServer((options.host, options.port), name, answer, int(options.max_mb * 1e6), task) as server:
        if server.host not in LOCAL:
            console.info(f"host={options.host}: every machine that reaches this one can use the page", "yellow")
        console.info(f"open {server.url} in a browser; stop the server with Ctrl-C", "bold")
        server.serve_forever()
