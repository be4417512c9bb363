"""LitServe with the benchmark's network: `serve.py FOLDER PORT WORKERS`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import litserve
from row_model import RowModel


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = RowModel(sys.argv[1])

    def decode_request(self, request: dict) -> list[dict]:
        return request["rows"]

    def predict(self, rows: list[dict]) -> list[float]:
        return self.model.predict(rows)

    def encode_response(self, scores: list[float]) -> dict:
        return {"scores": scores}


if __name__ == "__main__":
    server = litserve.LitServer(
        Api(api_path="/predict"), accelerator="cpu", workers_per_device=int(sys.argv[3]), timeout=30
    )
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
