"""How far something has come, and how long the rest will take.

A bar says so on a terminal and in a notebook; elsewhere, in a pipe or a file, what takes longer
than a minute prints a line a minute on stderr.
"""

import collections
import contextlib
import sys
import threading
import time
from collections.abc import Iterator

from tqdm.auto import tqdm

SECONDS_BETWEEN_LINES = 60

_seconds_busy = 0.  # with what is not done again, so that no estimate counts it


def shows_bars() -> bool:
    """Whether somebody is looking: at a terminal, or at a notebook, whose stderr is none."""
    return sys.stderr.isatty() or 'ipykernel' in sys.modules


def tell(line: str) -> None:
    """Print a line on stderr, with the time of day."""
    print(time.strftime('%Y-%m-%d %H:%M:%S'), line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def busy(what: str) -> Iterator[None]:
    """Say what is going on inside: something whose end cannot be foreseen, done only once."""
    global _seconds_busy
    started = time.monotonic()
    with tqdm(desc=what, bar_format='{desc} ...', leave=False, disable=not shows_bars()) as bar:
        line = threading.Timer(SECONDS_BETWEEN_LINES, tell, [f'{what} ...'])
        line.daemon = True
        if bar.disable:
            line.start()
        try:
            yield
        finally:
            line.cancel()
            _seconds_busy += time.monotonic() - started


class Progress:
    """Parts that are done one after the other; a context manager around that.

    How long the rest will take follows from the last hundred calls of :meth:`update`, and from what
    lies between them, but for what is :func:`busy`.

    :param name: of the whole
    :param total: number of parts
    :param epoch: number of parts in an epoch; None where there are no epochs
    :param may_end_early: this is the last part of a run, and ``total`` the most that it can have
    """

    def __init__(self, name: str, total: int, epoch: int | None = None,
                 may_end_early: bool = False):
        self.name, self.total, self.epoch = name, total, epoch or total
        self.may_end_early = may_end_early
        self._calls: collections.deque[tuple[float, int]] = collections.deque(maxlen=100)
        self._last_line = time.monotonic()

    def __enter__(self) -> 'Progress':
        self._bar = tqdm(total=self.epoch, desc=self.name, leave=False,
                         bar_format='{desc} |{bar}|', disable=not shows_bars())
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def update(self, done: int) -> None:
        """Note that ``done`` parts are done by now, and say so where it is time to."""
        now = time.monotonic()
        self._calls.append((now - _seconds_busy, done))
        if not self._bar.disable:
            self._bar.n = done - self._epochs_before() * self.epoch
            self._bar.set_description_str(str(self))
        elif now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            tell(str(self))

    def _epochs_before(self):
        return min(self._calls[-1][1], self.total - 1) // self.epoch

    def __str__(self):
        text, epoch, n_epochs = self.name, self._epochs_before() + 1, self.total // self.epoch
        if n_epochs > 1:
            text += f', epoch {epoch} of {n_epochs}'
        (start, before), (end, done) = self._calls[0], self._calls[-1]
        if done == before:  # nobody can know how long the rest will take
            return text
        of_epoch, of_all = (tqdm.format_interval((last - done) * (end - start) / (done - before))
                            for last in (epoch * self.epoch, self.total))
        if n_epochs == 1:
            return f'{text}, left: {of_all}'
        whole = 'run at most' if self.may_end_early else 'part'
        return f'{text}, left: epoch {of_epoch}, {whole} {of_all}'
