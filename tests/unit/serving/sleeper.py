"""A process that does nothing and can be stopped."""

from __future__ import annotations

import sys

SLEEPER = (sys.executable, "-c", "import time; time.sleep(60)")
