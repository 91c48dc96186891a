"""The command line of every script: its training function's keyword arguments."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

from support.errors import UserError


def run(main: Callable[..., Any]) -> None:
    """Call ``main`` with the arguments of the command line, and say on stderr how long it took.

    ``--help`` shows the docstring of ``main``, whose ``:param:`` fields explain the options.
    A mistake of the user ends the script with one line on stderr and exit status 1, Ctrl-C with
    130; the traceback of anything else is a fault to be mended, and stays.
    """
    script = Path(sys.argv[0]).name
    started = time.monotonic()
    try:
        tyro.cli(main, config=(tyro.conf.FlagCreatePairsOff,))
    except UserError as error:
        _stop(f'{script}: {error}')
    except MemoryError as error:
        _stop(f'{script}: not enough memory ({error}); choose smaller sizes')
    except RuntimeError as error:
        if 'RESOURCE_EXHAUSTED' not in str(error):  # the words of JAX when memory runs out
            raise
        _stop(f'{script}: not enough memory on the device; choose smaller sizes')
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        _stop(f'{script}: {error.strerror}: {error.filename or "output"}')
    except KeyboardInterrupt as interruption:
        _stop(f'{script}: interrupted' + ''.join(f'; {hint}' for hint in interruption.args),
              status=130)
    minutes = (time.monotonic() - started) / 60
    print(f'The code for file {script} ran for {minutes:.2f}m', file=sys.stderr)


def _stop(message, status=1):
    try:
        print(message, file=sys.stderr, flush=True)
    except OSError:  # stderr is gone as well: the exit status still tells
        os._exit(status)
    sys.exit(status)
