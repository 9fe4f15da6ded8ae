"""When the first new token came, of a runtime that is transformers' own loop."""

import time
from typing import Any


class FirstToken:
    """A streamer: notes when the first new token came; `generate` puts the prompt before it."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._puts = 0
        self.seconds: float | None = None

    def put(self, value: Any) -> None:
        self._puts += 1
        if self._puts == 2:
            self.seconds = time.perf_counter() - self._started

    def end(self) -> None:
        """Nothing is left to be shown."""
