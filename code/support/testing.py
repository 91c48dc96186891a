"""What the tests share."""

import contextlib
import io
import os
import tempfile
import unittest
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from support import datasets, engine
from support.digits import make_digits

import numpy
import pytensor as theano
import pytensor.tensor as T
from pytensor.compile.mode import Mode
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable

CODE_FOLDER = Path(__file__).resolve().parents[1]

engine.keep_compiled_functions()

# Runs every operation in Python, in float64 where the graph is: slow, and independent of the
# modes that the scripts use.
REFERENCE_MODE = Mode(linker='py', optimizer='fast_compile').excluding('BlasOpt')


class TestCase(unittest.TestCase):
    """A test in which warnings are errors, with a folder of its own that is removed afterwards."""

    def setUp(self) -> None:
        self.enterContext(warnings.catch_warnings())
        warnings.simplefilter('error')
        engine.ignore_harmless_warnings()
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))


def in_float64():
    """A context in which graphs are made, and run in ``REFERENCE_MODE``, in float64.

    The mode of the scripts is set aside as well: some versions of the engine compile parts of a
    graph, such as a softmax, in that mode even where another one is asked for.
    """
    return theano.config.change_flags(floatX='float64', mode='FAST_COMPILE')


def printed():
    """What is printed inside, as a ``StringIO``."""
    return contextlib.redirect_stdout(io.StringIO())


def small_images(n_train: int = 200, n_valid: int = 60, n_test: int = 60) -> datasets.ImageData:
    """A few of the project's digits, made small: 7 x 7 pixels."""
    pairs = []
    for pixels, labels in make_digits(seed=0, sizes=(n_train, n_valid, n_test)):
        images = pixels.astype('float32').reshape(-1, 7, 4, 7, 4).mean((2, 4)) / 256
        pairs.append((images.reshape(-1, 49), labels.astype('int32')))
    train, valid, test = pairs
    return datasets.ImageData('small digits', 'seed 0', train, valid, test, (7, 7), 10)


# For tests that take long and of which a quicker one tests nearly the same.
slow = unittest.skipUnless(os.environ.get('DLT_SLOW_TESTS'),
                           'takes long: DLT_SLOW_TESTS=1 runs it')


def mnist_is_here() -> bool:
    """Whether MNIST can be read without a network; only ``$DLT_DATA_DIR`` is asked."""
    folder = os.environ.get('DLT_DATA_DIR', '')
    return bool(folder) and any(Path(folder, name).exists() for name in ('mnist.pkl.gz', 'mnist'))


def finite_difference_error(cost: Variable, params: Sequence[SharedVariable],
                            gradients: Sequence[Variable] | None = None) -> float:
    """Largest relative difference between gradients and central differences of the cost.

    :param cost: scalar graph of shared variables only, in float64
    :param params: float64 shared variables; their values are put back
    :param gradients: graphs to test; None for ``T.grad``
    """
    value = theano.function([], cost, mode=REFERENCE_MODE)
    gradients = T.grad(cost, list(params)) if gradients is None else list(gradients)
    gradient_values = theano.function([], gradients, mode=REFERENCE_MODE)()
    starts = [param.get_value() for param in params]
    rng = numpy.random.RandomState(0)
    worst = 0.
    for _ in range(3):
        directions = [rng.normal(size=start.shape) for start in starts]
        costs = []
        for step in (1e-5, -1e-5, 0):
            for param, start, direction in zip(params, starts, directions, strict=True):
                param.set_value(start + step * direction)
            costs.append(float(value()))
        numerical = (costs[0] - costs[1]) / 2e-5
        analytical = sum(float(numpy.sum(gradient * direction)) for gradient, direction
                         in zip(gradient_values, directions, strict=True))
        worst = max(worst, abs(numerical - analytical) / max(abs(numerical), 1e-8))
    return worst


def until_failure(function: Callable, calls: int, failure: BaseException) -> Callable:
    """``function``, but that it raises ``failure`` instead when it has been called so often."""
    def wrapper(*args, **kwargs):
        nonlocal calls
        if calls == 0:
            raise failure
        calls -= 1
        return function(*args, **kwargs)

    return wrapper
