"""The command line of every script: its training function's keyword arguments."""

import functools
import inspect
import os
import signal
import sys
import time
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from support import engine
from support.checkpoints import recorded_settings
from support.errors import UserError, printable

import tyro

CONFIG = tyro.conf.FlagCreatePairsOff,  # --augment, and no --no-augment


def main(function: Any) -> None:
    """Call a function with the arguments of the command line, and tell on stderr the time taken.

    ``--help`` shows the docstring of ``function``, whose ``:param:`` fields explain the options.
    A mistake of the user ends the script with one line on stderr and exit status 1, Ctrl-C with
    130; the traceback of anything else is a fault to be mended, and stays.
    """
    script = Path(sys.argv[0]).name
    started = time.monotonic()
    for name in ('stdout', 'stderr'):
        if getattr(sys, name) is None:  # closed: so that no file takes its number
            setattr(sys, name, open(os.devnull, 'w'))
        elif hasattr(getattr(sys, name), 'reconfigure'):  # for terminals that know few letters
            getattr(sys, name).reconfigure(errors='backslashreplace')
    try:
        os.getcwd()
    except OSError:
        _stop(f'{script}: the working directory is gone: change to another one')
    try:
        engine.check_flags()
        engine.keep_compiled_functions()
        # A flag of the run that goes on may be said again, or taken back.
        tyro.cli(legible(with_recorded_defaults(function, sys.argv[1:])),
                 config=() if '--resume' in sys.argv else CONFIG)
    except UserError as error:
        _stop(f'{script}: {error.with_options()}')
    except MemoryError as error:
        _stop(f'{script}: not enough memory ({error}); choose smaller sizes')
    except RuntimeError as error:
        if 'RESOURCE_EXHAUSTED' not in str(error):  # the words of JAX when memory runs out
            raise
        _stop(f'{script}: not enough memory on the device; choose smaller sizes')
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        _stop(f'{script}: {error.strerror}: '
              f'{error.filename or "output, or files for temporary use"}')
    except KeyboardInterrupt as interruption:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # this is the end, however often it is pressed
        hints = [UserError(hint).with_options() for hint in interruption.args]
        _stop('; '.join([f'{script}: interrupted', *hints]), status=130)
    minutes = (time.monotonic() - started) / 60
    print(f'The code for file {script} ran for {minutes:.2f}m', file=sys.stderr)


def with_recorded_defaults(function: Callable[..., Any],
                           arguments: list[str]) -> Callable[..., Any]:
    """With --resume among the arguments, the defaults are the settings that the run had before."""
    if '--resume' not in arguments:
        return function
    signature = inspect.signature(function)
    flag, folder = '--output-folder', signature.parameters['output_folder'].default
    for argument, following in zip(arguments, [*arguments[1:], ''], strict=True):
        if argument == flag:
            folder = following
        elif argument.startswith(f'{flag}='):
            folder = argument.removeprefix(f'{flag}=')
    recorded = recorded_settings(function, folder)

    resumed: Any = functools.wraps(function)(lambda **settings: function(**settings))
    resumed.__signature__ = signature.replace(parameters=[
        parameter.replace(default=recorded.get(name, parameter.default))
        for name, parameter in signature.parameters.items()])
    return resumed


def legible(function: Any) -> Any:
    """With a help that says nothing of the type of None, and of defaults that are None or nothing.

    What is done then is in the words of the option.
    """
    if not inspect.isfunction(function):  # but several, of which one is chosen
        return function
    signature = inspect.signature(function)
    hints = typing.get_type_hints(function, include_extras=True)
    for name, parameter in signature.parameters.items():
        values: dict[str, Any] = {}
        if parameter.default in (None, ()) or parameter.default is False:
            values['help_behavior_hint'] = ''
        if isinstance(hints[name], types.UnionType):
            first, *others = typing.get_args(hints[name])
            kind = first.__name__.upper()
            values['metavar'] = kind if others == [type(None)] else f'{kind} [{kind} ...]'
        hints[name] = Annotated[hints[name], tyro.conf.arg(**values)]

    @functools.wraps(function)
    def legible_function(**settings):
        return function(**settings)

    del legible_function.__wrapped__  # whose hints tyro would take
    legible_function.__annotations__ = hints
    legible_function.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[parameter.replace(annotation=hints[name])
                    for name, parameter in signature.parameters.items()])
    legible_function.__doc__ = (inspect.getdoc(function) or '').replace('::\n\n', ':\n')
    return legible_function


def _stop(message, status=1):
    try:
        print(printable(message), file=sys.stderr, flush=True)
    except OSError:  # stderr is gone as well: the exit status still tells
        os._exit(status)
    sys.exit(status)
