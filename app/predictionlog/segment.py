"""Segment files: what a replica answered, on disk before the answer leaves.

One JSON line per request, written with one `write` to a file opened for appending: once it returns, the line is
the operating system's, and the death of the process loses nothing. A half-written last line (death
of the node) is not shipped and is not counted as a line.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import uuid
from pathlib import Path
from typing import Any, Literal

import orjson

Kind = Literal["predictions", "labels", "mirrored"]
SUFFIX = ".jsonl"
_AS_TEXT = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATETIME
_ENCODER = json.JSONEncoder(separators=(",", ":"), default=str)
MAX_SEGMENT_BYTES = 64 * 1024 * 1024


def segment_folder(segments: Path, project: str, kind: Kind) -> Path:
    """Where the segment files of a project lie on this host."""
    return segments / project / kind


class SegmentWriter:
    """Appends records to this process's own segment file, from any of its threads.

    `boot_id` names this start of the process and `sequence` counts its records, so (request_id, boot_id, sequence)
    tells repeated attempts at one request apart.
    """

    def __init__(self, folder: Path, max_segment_bytes: int = MAX_SEGMENT_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._max_segment_bytes = max_segment_bytes
        self.boot_id = uuid.uuid4().hex
        self.sequence = 0
        self._num_segments = 0
        self._lock = threading.Lock()
        self._descriptor = self._open()
        self._num_bytes = 0

    def append(self, record: dict[str, Any]) -> int:
        """Writes one record and gives its sequence number.

        Raises:
            OSError: the disk took only a part or nothing; the request must not be answered as recorded.
        """
        with self._lock:
            sequence = self.sequence
            self.sequence += 1
            data = _encoded({"boot_id": self.boot_id, "sequence": sequence, **record}) + b"\n"
            written = os.write(self._descriptor, data)
            self._num_bytes += written
            if written != len(data):
                self._rotate()
                raise OSError(f"segment file took {written} of {len(data)} bytes; is the disk of {self._folder} full?")
            if self._num_bytes >= self._max_segment_bytes:
                self._rotate()
        return sequence

    def close(self) -> None:
        os.close(self._descriptor)

    def _rotate(self) -> None:
        os.close(self._descriptor)
        self._descriptor = self._open()
        self._num_bytes = 0

    def _open(self) -> int:
        path = self._folder / f"{self.boot_id}-{self._num_segments:05d}{SUFFIX}"
        self._num_segments += 1
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # until it is closed, also by death: nobody sweeps it meanwhile
        return descriptor


def _encoded(record: dict[str, Any]) -> bytes:
    """A record as JSON; what JSON does not have is text, NaN is null."""
    try:
        return orjson.dumps(record, default=str, option=_AS_TEXT)
    except TypeError:  # a whole number of more than 64 bits
        return _ENCODER.encode(record).encode()


def has_writer(path: Path) -> bool:
    """Whether a living process may still append to a segment."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def read_lines(path: Path, offset: int, max_bytes: int) -> tuple[list[dict[str, Any]], int]:
    """Complete records from `offset` on, and the offset after the last of them.

    Reads about `max_bytes`, but always at least one whole line when there is one. A line that is no JSON (what
    a full disk left behind) is skipped.
    """
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(max_bytes)
        if b"\n" not in data:
            data += file.readline()
    end = data.rfind(b"\n") + 1
    records = [record for line in data[:end].splitlines() if (record := _parse(line)) is not None]
    return records, offset + end


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
