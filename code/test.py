"""Run every test: the command `nosetests`, but a run in which there was no test is a failure.

With --parts=2 the test files are dealt out to two processes, for a machine with two cores.
"""

import subprocess
import sys
from pathlib import Path

import nose
from nose.plugins import Plugin

CODE = Path(__file__).resolve().parent


class NothingRan(Plugin):
    """Fails a run that collected no test, which nose takes for a success."""

    name = 'nothing-ran'
    enabled = True

    def options(self, parser, env):
        """No options."""

    def configure(self, options, conf):
        """Always on."""

    def finalize(self, result):
        """Called by nose after the last test."""
        if result.testsRun == 0:
            sys.exit('no test was found')


class Part(Plugin):
    """Runs the test files of one part: every n-th, in the order of their names."""

    name = 'part'

    def options(self, parser, env):
        """The options of this plugin."""
        parser.add_option('--part', metavar='I/N', help='only part I of N of the test files')

    def configure(self, options, conf):
        """Read the options."""
        self.enabled = options.part is not None
        if self.enabled:
            part, n_parts = map(int, options.part.split('/'))
            files = sorted(CODE.rglob('test_*.py'), key=lambda path: path.name.lower())
            self.files = files[part::n_parts]

    def wantFile(self, file):
        """Called by nose for every file: False for those of other parts."""
        path = Path(file)
        return False if path.name.startswith('test_') and path not in self.files else None


def run_in_parts(n_parts: int, arguments: list[str]) -> int:
    """Run all parts side by side.

    :return: exit status: 0 if none of them failed
    """
    parts = [subprocess.Popen([sys.executable, __file__, *arguments, f'--part={i}/{n_parts}'])
             for i in range(n_parts)]
    return int(any([part.wait() != 0 for part in parts]))


if __name__ == '__main__':
    if sys.argv[1:] and sys.argv[1].startswith('--parts='):
        sys.exit(run_in_parts(int(sys.argv[1].removeprefix('--parts=')), sys.argv[2:]))
    nose.main(argv=[sys.argv[0], '--config', str(CODE.parent / 'setup.cfg'), str(CODE),
                    *sys.argv[1:]], addplugins=[NothingRan(), Part()])
