"""Where the time goes: functions of ours, timed in place by replacing them in their modules.

Each stretch of time belongs to the innermost timed function that runs, so the parts add up to the
whole; what runs outside of all of them is "the rest".
"""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any

REST = "the rest"


class Clock:
    """Adds up the seconds of each part between `begin` and `end`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.running: list[str] = []
        self.since = 0.0

    def begin(self) -> None:
        """Start anew."""
        self.seconds, self.running = dict.fromkeys(self.seconds, 0.0), [REST]
        self.since = time.perf_counter()

    def end(self) -> dict[str, float]:
        """Return the seconds by part."""
        self._to_now()
        self.running = []
        return dict(self.seconds)

    def _to_now(self) -> None:
        now = time.perf_counter()
        if self.running:
            part = self.running[-1]
            self.seconds[part] = self.seconds.get(part, 0.0) + now - self.since
        self.since = now

    def timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """Return the function, its time counted as this part's."""
        self.seconds.setdefault(part, 0.0)

        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            self._to_now()
            self.running.append(part)
            try:
                return function(*args, **options)
            finally:
                self._to_now()
                self.running.pop()

        return call

    def install(self, places: Mapping[str, tuple[str, ...]]) -> None:
        """Replace the functions of each part, named `module:function`, for good.

        >>> import json
        >>> clock, before = Clock(), json.dumps
        >>> clock.install({"writing": ("json:dumps",)})
        >>> clock.begin(); _ = json.dumps(list(range(10 ** 5))); found = clock.end()
        >>> json.dumps = before
        >>> list(found), found["writing"] > found["the rest"] > 0
        (['writing', 'the rest'], True)
        """
        for part, functions in places.items():
            for path in functions:
                module, name = path.split(":")
                owner = importlib.import_module(module)
                setattr(owner, name, self.timed(getattr(owner, name), part))
