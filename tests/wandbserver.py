"""A small stand-in for the server of Weights & Biases on this machine: it answers, is slow, or dies."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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
            self.rows += body.count(b"fold0/f1") if path.endswith("file_stream") else 0
            return {}
        query = json.loads(body)["query"]
        self.seen.append(query.split("(")[0].split("{")[0].strip())
        if "upsertBucket" in query:
            return {"data": {"upsertBucket": {"bucket": BUCKET, "inserted": True}}}
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

    def __enter__(self) -> Server:
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.die()

    def die(self) -> None:
        """Answer no more."""
        self.http.shutdown()
        self.http.server_close()
