"""A small stand-in for the server of Weights & Biases on this machine: it answers, is slow, or dies."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "k" * 40
PROJECT = {"name": "maskcls", "entity": {"name": "me"}}
BUCKET = {
    "id": "UnVuOjE=", "name": "r", "displayName": "r", "sweepName": None, "description": None, "config": "{}", "historyLineCount": 0,
    "project": {"id": "UA==", **PROJECT},
}  # fmt: skip
ARTIFACT = {
    "id": "QQ==",
    "state": "COMMITTED",
    "artifactSequence": {"id": "Qg==", "latestArtifact": {"id": "QQ==", "versionIndex": 0}},
}
VIEWER = {
    "id": "VQ==",
    "entity": "me",
    "username": "me",
    "email": "",
    "admin": False,
    "flags": "{}",
    "teams": {"edges": []},
}


class Server:
    """A context in which the stand-in listens; `seen` holds the operations and paths that were asked for."""

    def __init__(self, delay: float = 0.0) -> None:
        self.delay, self.seen, self.rows = delay, [], 0
        self.history: dict[str, dict[int, str]] = {}  # lines of each run by number, as the server has them
        outer = self

        class Answer(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do(self) -> None:
                time.sleep(outer.delay)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                content = json.dumps(outer.reply(self.path, body)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        self.variables = {"WANDB_BASE_URL": self.address, "WANDB_API_KEY": KEY, "WANDB_MODE": "online"}

    def reply(self, path: str, body: bytes) -> object:
        """Return what the real one would answer, as far as wandb asks for it."""
        if "graphql" not in path:
            self.seen.append(path)
            if path.endswith("file_stream"):
                self.rows += body.count(b"fold0/f1")
                self.keep_history(path.split("/")[-2], json.loads(body))
            return {}
        query, variables = json.loads(body)["query"], json.loads(body).get("variables") or {}
        self.seen.append(query.split("(")[0].split("{")[0].strip())
        if "RunResumeStatus" in query:
            return {"data": {"model": self.resumed(variables["name"])}}
        if "upsertBucket" in query:
            name = variables["name"]
            is_new = name not in self.history
            self.history.setdefault(name, {})
            bucket = {**BUCKET, "name": name, "displayName": name, "historyLineCount": len(self.history[name])}
            return {"data": {"upsertBucket": {"bucket": bucket, "inserted": is_new}}}
        if "createArtifact(" in query:
            return {"data": {"createArtifact": {"artifact": ARTIFACT}}}
        if "createRunFiles" in query:
            names = json.loads(body)["variables"].get("files") or []
            files = [{"name": name, "uploadUrl": f"{self.address}/put/{i}"} for i, name in enumerate(names)]
            return {"data": {"createRunFiles": {"runID": "UnVuOjE=", "uploadHeaders": [], "files": files}}}
        return {
            "data": {
                "viewer": VIEWER,
                "serverInfo": None,
                "project": None,
                "model": None,
                "__schema": None,
                "__type": None,
            }
        }

    def keep_history(self, name: str, content: dict[str, Any]) -> None:
        """Keep the lines of a run's history, each under its number, as the real one does."""
        sent = (content.get("files") or {}).get("wandb-history.jsonl") or {"offset": 0, "content": []}
        lines = self.history.setdefault(name, {})
        for i, line in enumerate(sent["content"]):
            lines[sent["offset"] + i] = line

    def resumed(self, name: str) -> dict[str, Any] | None:
        """Return what the real one knows of a run, None for a new one."""
        if name not in self.history:
            return None
        lines = [self.history[name][i] for i in sorted(self.history[name])]
        bucket = {
            "id": BUCKET["id"], "name": name, "displayName": name, "summaryMetrics": lines[-1] if lines else "{}",
            "logLineCount": 0, "eventsLineCount": 0, "eventsTail": "[]", "config": "{}", "tags": [], "notes": None,
            "historyLineCount": len(lines), "historyTail": json.dumps(lines[-1:]), "wandbConfig": '{"t": 1}',
        }  # fmt: skip
        return {"id": "UA==", **PROJECT, "bucket": bucket}

    def steps(self, name: str) -> list[int]:
        """Return the step of each line of a run's history, in the order of the lines."""
        return [json.loads(self.history[name][i])["_step"] for i in sorted(self.history[name])]

    def __enter__(self) -> Server:
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.die()

    def die(self) -> None:
        """Answer no more."""
        self.http.shutdown()
        self.http.server_close()
