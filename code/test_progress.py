"""Tests of what is said about the time: on a terminal, in a notebook, in a pipe."""

import contextlib
import io
import sys
import time
from unittest import mock

from support import progress
from support.progress import Progress, busy
from support.testing import TestCase


class Terminal(io.StringIO):
    """A stderr that says of itself that it is a terminal."""

    def isatty(self):
        return True


class TestProgress(TestCase):
    def told(self, work, stderr):
        """What the work writes there."""
        with contextlib.redirect_stderr(stderr):
            work()
        return stderr.getvalue()

    def training(self, seconds, **settings):
        """Sixty epochs of four calls, each of which takes so long, the first 30 seconds longer."""
        def work():
            now = [100.]
            with mock.patch.object(progress.time, 'monotonic', lambda: now[0]), \
                    Progress('training', 60 * 40, 40, **settings) as training:
                now[0] += 30
                for done in range(10, 60 * 40 + 1, 10):
                    now[0] += seconds
                    training.update(done)

        return work

    def test_a_pipe_gets_a_line_a_minute(self):
        lines = self.told(self.training(seconds=5), io.StringIO()).splitlines()
        self.assertEqual(len(lines), (30 + 240 * 5) // 60)
        for line in lines:
            self.assertRegex(line, r'\A\d{4}-\d\d-\d\d \d\d:\d\d:\d\d training, epoch ')
        # After a minute there were 6 calls, of 5 seconds, and 2 of the second epoch are left.
        self.assertIn('epoch 2 of 60, left: epoch 00:10, part 19:30', lines[0])
        self.assertIn('epoch 59 of 60, left: epoch 00:10, part 00:30', lines[-1])

    def test_a_pipe_gets_nothing_in_the_first_minute(self):
        self.assertEqual(self.told(self.training(seconds=0.12), io.StringIO()), '')

    def test_a_run_that_may_end_early(self):
        text = self.told(self.training(seconds=5, may_end_early=True), io.StringIO())
        self.assertIn('epoch 2 of 60, left: epoch 00:10, run at most 19:30\n', text)

    def test_a_terminal_gets_a_bar_that_leaves_nothing(self):
        text = self.told(self.training(seconds=5), Terminal())
        self.assertIn('training, epoch 1 of 60 |', text)  # after one call nobody can know
        self.assertIn('training, epoch 1 of 60, left: epoch 00:10, part 19:50 |', text)
        self.assertIn('training, epoch 60 of 60, left: epoch 00:00, part 00:00 |', text)
        self.assertEqual(text.split('\r')[-2].strip(), '')

    def test_what_is_done_once_does_not_count(self):
        def work():
            now = [100.]
            with mock.patch.object(progress.time, 'monotonic', lambda: now[0]), \
                    Progress('training', 100) as training:
                for done in (1, 2):
                    with busy('compiling'):
                        now[0] += 50
                    now[0] += 1
                    training.update(done)

        self.assertIn('training, left: 01:38 |', self.told(work, Terminal()))

    def test_without_epochs(self):
        def work():
            with Progress('AIS', 30) as annealing:
                for done in (10, 20, 30):
                    annealing.update(done)

        self.assertIn('AIS, left: 00:00 |', self.told(work, Terminal()))

    def test_a_notebook_is_no_terminal(self):
        with contextlib.redirect_stderr(io.StringIO()):
            self.assertFalse(progress.shows_bars())
            with mock.patch.dict(sys.modules, ipykernel=None):
                self.assertTrue(progress.shows_bars())


class TestBusy(TestCase):
    def test_it_is_said_at_once_on_a_terminal(self):
        with contextlib.redirect_stderr(Terminal()) as errors:
            with busy('compiling'):
                self.assertIn('compiling ...', errors.getvalue())

    def test_it_is_said_in_a_pipe_when_it_takes_long(self):
        with mock.patch.object(progress, 'SECONDS_BETWEEN_LINES', 0.05), \
                contextlib.redirect_stderr(io.StringIO()) as errors:
            with busy('compiling'):
                self.assertEqual(errors.getvalue(), '')
                time.sleep(0.5)
            with busy('something quick'):
                pass
            time.sleep(0.2)
        self.assertRegex(errors.getvalue(), r'\A\S+ \S+ compiling \.\.\.\n\Z')
