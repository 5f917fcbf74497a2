"""A stand-in for a provider of language models: answers OpenAI's chat and embeddings calls with fixed words.

python stand_in.py 8001
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = ["The ", "income ", "did ", "not ", "cover ", "the ", "debt."]
USAGE = {"prompt_tokens": 31, "completion_tokens": 7, "total_tokens": 38}


class Provider(BaseHTTPRequestHandler):
    """The two routes that the example calls; the model ``busy-1`` refuses everybody."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Whether it is up."""
        self._answer(200, {"status": "ok"})

    def do_POST(self) -> None:
        """One call."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["model"] == "busy-1":
            self._answer(429, {"error": {"message": "too many requests", "type": "rate_limit"}})
        elif self.path.endswith("/embeddings"):
            data = [
                {"object": "embedding", "index": place, "embedding": [0.1, 0.2, 0.3]}
                for place, _ in enumerate(asked["input"])
            ]
            usage = {"prompt_tokens": 2, "total_tokens": 2}
            self._answer(200, {"object": "list", "model": asked["model"], "data": data, "usage": usage})
        elif asked.get("stream"):
            self._stream(asked["model"])
        else:
            message = {"role": "assistant", "content": "".join(WORDS)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._answer(200, self._completion(asked["model"], "chat.completion", choice) | {"usage": USAGE})

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def _completion(self, model: str, kind: str, choice: dict[str, Any]) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": model, "choices": [choice]}

    def _stream(self, model: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for place, word in enumerate(WORDS):
            last = place == len(WORDS) - 1
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": "stop" if last else None}
            event = json.dumps(self._completion(model, "chat.completion.chunk", choice))
            self.wfile.write(f"data: {event}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Provider).serve_forever()
