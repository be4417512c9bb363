"""Compiles DeepSpeed's CPU communication extension once: `python -m app.training.prebuild`."""

from __future__ import annotations

import time

from app.training.environment import EXTENSIONS, clear_stale_locks, prepare_process


def main() -> None:
    """Builds the extension, or finds it built; a failed build is reported by DeepSpeed's own error."""
    prepare_process(use_gpu=False)
    clear_stale_locks()
    started_s = time.monotonic()
    print("compiling DeepSpeed's CPU extension (about 80 s the first time) …", flush=True)
    from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder

    ShareMemCommBuilder().load(verbose=False)
    print(f"ready in {EXTENSIONS} after {time.monotonic() - started_s:.0f} s")


if __name__ == "__main__":
    main()
