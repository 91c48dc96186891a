"""What is said to the person at the keyboard: mistakes, of settings and others, and notices."""

import re
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy


def printable(message: str) -> str:
    """A message on one line, whatever is in the names in it: a line break becomes ``\\n``."""
    return ''.join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in message)


class UserError(ValueError):
    """A mistake that the user can mend: a missing file, a broken file, a setting that cannot be.

    The message is one line that says what is wrong and what to do about it, so that a script can
    print it alone, without a traceback. Whatever else goes wrong is a fault of the program and
    keeps its traceback. Settings are named in backquotes, as Python's keywords: ``batch_size``
    or ``resume=True``.
    """

    def __init__(self, message: str):
        super().__init__(printable(message))

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of it: the line, and no traceback."""
        return [f'{type(self).__name__}: {self}']

    def with_options(self) -> str:
        """The message for a command line, where settings are options: --batch-size, --resume."""
        return re.sub(r'`(\w+)(=True)?`', lambda match: '--' + match[1].replace('_', '-'),
                      str(self))


Entry = TypeVar('Entry')

MOST = 10 ** 9  # that a setting may be: the sizes of a matrix are then numbers of 64 bits


def check(low: float, high: float = MOST, /, **settings: Any) -> None:
    """See that each of these settings, or every number in a list, lies from ``low`` to ``high``.

    :raises UserError: when one does not, is no number, is infinite, or is an empty list
    """
    for name, value in settings.items():
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if not (numbers and all(isinstance(number, (int, float, numpy.number))
                                and low <= number <= high for number in numbers)):
            raise UserError(f'`{name}` is {value}, but has to be from {low} to {high}')


def notice(message: str) -> None:
    """Say on stderr, on one line, what was done that the user may not expect."""
    print(printable(f'NOTICE: {message}'), file=sys.stderr, flush=True)


def choose(table: Mapping[str, Entry], /, **setting: str) -> Entry:
    """The entry of a table that a setting, one keyword argument, gives the name of.

    :raises UserError: when it is none of the names in the table
    """
    (name, value), = setting.items()
    if value not in table:
        raise UserError(f'`{name}` is {value}, but has to be one of {", ".join(table)}')
    return table[value]
