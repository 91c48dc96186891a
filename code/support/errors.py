"""The one exception that is meant for the person at the keyboard, and the check of settings."""

import math
import re
from numbers import Real
from typing import Any


class UserError(ValueError):
    """A mistake that the user can mend: a missing file, a broken file, a setting that cannot be.

    The message is one line that says what is wrong and what to do about it, so that a script can
    print it alone, without a traceback. Whatever else goes wrong is a fault of the program and
    keeps its traceback. Settings are named in backquotes, as Python's keywords: ``batch_size``
    or ``resume=True``.
    """

    def with_options(self) -> str:
        """The message for a command line, where settings are options: --batch-size, --resume."""
        return re.sub(r'`(\w+)(=True)?`', lambda match: '--' + match[1].replace('_', '-'),
                      str(self))


def check(low: float, high: float = math.inf, /, **settings: Any) -> None:
    """See that each of these settings, or every number in a list, lies from ``low`` to ``high``.

    :raises UserError: when one does not, is no number, is infinite, or is an empty list
    """
    for name, value in settings.items():
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if not (numbers and all(isinstance(number, Real) and low <= number <= high
                                and math.isfinite(number) for number in numbers)):
            limits = f'from {low} to {high}' if math.isfinite(high) else f'at least {low}'
            raise UserError(f'`{name}` is {value}, but has to be {limits}')
