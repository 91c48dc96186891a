"""What the tests share."""

import contextlib
import io
import os
import shutil
import tempfile
import unittest
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy
import pytensor as theano
import pytensor.tensor as T
from pytensor.compile.mode import Mode
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable

from support import datasets, engine
from support.digits import make_digits

CODE_FOLDER = Path(__file__).resolve().parents[1]

# Runs every operation in Python, in float64 where the graph is: slow, and independent of the
# modes that the scripts use.
REFERENCE_MODE = Mode(linker='py', optimizer='fast_compile').excluding('BlasOpt')


class TestCase(unittest.TestCase):
    """A test in which warnings are errors, with a folder of its own that is removed afterwards."""

    def setUp(self) -> None:
        caught = warnings.catch_warnings()
        caught.__enter__()
        self.addCleanup(caught.__exit__, None, None, None)
        warnings.simplefilter('error')
        engine.ignore_harmless_warnings()
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)


def in_float64():
    """A context in which graphs are made, and run in ``REFERENCE_MODE``, in float64.

    The mode of the scripts is set aside as well: some versions of the engine compile parts of a
    graph, such as a softmax, in that mode even where another one is asked for.
    """
    return theano.config.change_flags(floatX='float64', mode='FAST_COMPILE')


@contextlib.contextmanager
def printed():
    """What is printed inside, as a ``StringIO``."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        yield output


def small_images(n_train: int = 200, n_valid: int = 60, n_test: int = 60,
                 seed: int = 0) -> datasets.ImageData:
    """A few of the project's digits, made small: 7 x 7 pixels."""
    splits = make_digits(seed=seed, sizes=(n_train, n_valid, n_test))
    pairs = []
    for pixels, labels in splits:
        images = numpy.asarray(pixels, dtype='float32').reshape(-1, 7, 4, 7, 4).mean((2, 4)) / 256
        pairs.append((images.reshape(-1, 49), numpy.asarray(labels, dtype='int32')))
    train, valid, test = pairs
    return datasets.ImageData('small digits', f'seed {seed}', train, valid, test, (7, 7), 10)


# For tests that take long and of which a quicker one tests nearly the same.
slow = unittest.skipUnless(os.environ.get('DLT_SLOW_TESTS'),
                           'takes long: DLT_SLOW_TESTS=1 runs it')


def mnist_is_here() -> bool:
    """Whether MNIST can be read without a network; only ``$DLT_DATA_DIR`` is asked."""
    folder = Path(os.environ.get('DLT_DATA_DIR', ''))
    return bool(os.environ.get('DLT_DATA_DIR')) and (
        (folder / 'mnist.pkl.gz').exists() or (folder / 'mnist').is_dir())


def finite_difference_error(cost: Variable, params: Sequence[SharedVariable],
                            gradients: Sequence[Variable] | None = None,
                            n_directions: int = 3) -> float:
    """Largest relative difference between gradients and central differences of the cost.

    :param cost: scalar graph of shared variables only, in float64
    :param params: float64 shared variables; their values are put back
    :param gradients: graphs to test; None for ``T.grad``
    :param n_directions: random directions to try
    """
    value = theano.function([], cost, mode=REFERENCE_MODE)
    gradients = T.grad(cost, list(params)) if gradients is None else list(gradients)
    gradient_values = theano.function([], gradients, mode=REFERENCE_MODE)()
    starts = [param.get_value() for param in params]
    rng = numpy.random.RandomState(0)
    worst, step = 0.0, 1e-5
    for _ in range(n_directions):
        directions = [rng.normal(size=start.shape) for start in starts]
        ends = []
        for sign in (1, -1):
            for param, start, direction in zip(params, starts, directions, strict=True):
                param.set_value(start + sign * step * direction)
            ends.append(float(value()))
        numerical = (ends[0] - ends[1]) / (2 * step)
        analytical = sum(float(numpy.sum(gradient * direction)) for gradient, direction
                         in zip(gradient_values, directions, strict=True))
        worst = max(worst, abs(numerical - analytical) / max(abs(numerical), 1e-8))
    for param, start in zip(params, starts, strict=True):
        param.set_value(start)
    return worst


def until_failure(function: Callable, calls: int, failure: BaseException) -> Callable:
    """``function``, but that it raises ``failure`` instead when it has been called so often."""
    count = 0

    def wrapper(*args, **kwargs):
        nonlocal count
        count += 1
        if count > calls:
            raise failure
        return function(*args, **kwargs)

    return wrapper
