"""The one exception that is meant for the person at the keyboard."""


class UserError(ValueError):
    """A mistake that the user can mend: a missing file, a broken file, a setting that cannot be.

    The message is one line that says what is wrong and what to do about it, so that a script can
    print it alone, without a traceback. Whatever else goes wrong is a fault of the program and
    keeps its traceback.
    """
