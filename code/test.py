"""Run every test: the command `nosetests`, but a run in which there was no test is a failure."""

import sys
from pathlib import Path

import nose
from nose.plugins import Plugin


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


if __name__ == '__main__':
    code = Path(__file__).resolve().parent
    nose.main(argv=[sys.argv[0], '--config', str(code.parent / 'setup.cfg'), str(code),
                    *sys.argv[1:]], addplugins=[NothingRan()])
