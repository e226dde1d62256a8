"""When to give up waiting for a server: when it has been silent for long, not when its answer is late.

A report that takes a minute on a healthy server looks to its driver like a read on one that was stopped. The monitor
knows the difference: the healthy server answers probes meanwhile. So a wait goes on while the server is heard of, and
ends once neither the read nor a probe has been answered for ``seconds``. A read that is answered in time costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

SILENT: Final = "has been silent for"
"""In the driver's error, whichever driver it is: nobody was heard to die."""


class Patience:
    """With one server; shared by all of its connections, whichever thread uses them."""

    def __init__(
        self,
        server: str,
        seconds: float,
        *,
        clock: Callable[[], float],
        heard: Callable[[], float] = lambda: float("-inf"),
        ask: Callable[[], None] = lambda: None,
    ) -> None:
        self.server = server
        self.seconds = seconds
        self.clock = clock
        self._heard = heard
        self._ask = ask
        self._gave_up_at = float("-inf")

    def __repr__(self) -> str:
        return f"<Patience with {self.server}: {self.seconds:g} s>"

    def left(self, since: float) -> float:
        """Seconds to wait before asking here again, of a wait that began at ``since``; 0: give up now.

        In the second half of a silence the server is probed, so that a healthy one is heard of in time.
        """
        now = self.clock()
        silent_since = max(since, self._heard())
        left = silent_since + self.seconds - now
        if left <= 0:
            self.give_up()
            return 0.0
        if now - silent_since >= self.seconds / 2:
            self._ask()
        return min(left, self.seconds / 2)

    def give_up(self) -> None:
        """Somebody has waited for the whole time."""
        self._gave_up_at = self.clock()

    @property
    def is_spent(self) -> bool:
        """A wait was given up a moment ago and the server was not heard of since: do not begin another one.

        A pre-ping that ends so is followed by an attempt to connect, and whoever waited for the slot of a stuck
        connection would connect too: each would cost its time once more.
        """
        return self.clock() - self._gave_up_at < self.seconds and self._heard() <= self._gave_up_at

    @property
    def words(self) -> str:
        """What to say when giving up."""
        return f"{self.server} {SILENT} {self.seconds:g} s (read_deadline): it answered neither this read nor a probe"
