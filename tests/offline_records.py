"""What an offline file of Weights & Biases holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from wandb.proto.wandb_internal_pb2 import Record


def records(folder: Path) -> list[dict[str, Any]]:
    """Read the records of the latest offline file below a folder: LevelDB's log format, of wandb's own messages."""
    file = max(folder.rglob("run-*.wandb"), key=lambda file: file.parent.name)
    content, place, message, found = file.read_bytes(), 7, b"", []  # behind the file's own head
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # no room for a head: the next block
            place += 32768 - place % 32768
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        message += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(MessageToDict(Record.FromString(message), preserving_proto_field_name=True))
            message = b""
    return found
