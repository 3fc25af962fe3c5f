"""A `vllm serve` that answers by rule and notes what it is asked."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file


class Stub(ThreadingHTTPServer):
    """Answers as `vllm serve` does, from a list of completions; notes what it is asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked: list[tuple[str, Any]] = []
        self.missing: set[str] = set()
        self.weights: dict[str, torch.Tensor] = {}
        self.num_files = 0
        self.hold = threading.Event()
        self.hold.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Stub

    def do_GET(self) -> None:
        self._answer({"data": [{"id": "served", "max_model_len": 16}], "world_size": 2})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
        self.server.asked.append((self.path, body))
        if self.path == "/collective_rpc":
            files = list(Path(body["kwargs"]["weights_path"]).glob("*.safetensors"))
            self.server.num_files = len(files)
            self.server.weights = {name: tensor for file in files for name, tensor in load_file(file).items()}
        if self.path == "/v1/completions":
            self.server.hold.wait()
            self._answer({"choices": [self._choice(body, index) for index in reversed(range(body["n"]))]})
        else:
            self._answer({})

    def _choice(self, body: dict[str, Any], index: int) -> dict[str, Any]:
        ids = [2 + index, 3, 1][: body["max_tokens"]]
        logprobs = None if body["logprobs"] is None else {"token_logprobs": [-0.5] * len(ids)}
        return {"index": index, "text": "", "token_ids": ids, "logprobs": logprobs, "finish_reason": "length"}

    def _answer(self, document: Any) -> None:
        found = self.path.partition("?")[0] not in self.server.missing
        content = json.dumps(document if found else {"detail": "Not Found"}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Silent."""
