"""How long one update takes, beside what cannot be avoided: the floor, timed in the same run.

The floor is the matrix products of the update, and the passes over weights and data that they do
not include, done one after the other by NumPy. The update is timed inside a call that runs many,
as in training. Seconds depend on the machine and its other work; the ratios say more. With
``--peers``, PyTorch takes the same steps in turn with ours.
"""

import functools
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from support import command_line, engine
from support.folders import write_json
from support.optimisers import sgd_updates

import numpy
import pytensor as theano
import pytensor.tensor as T
from scipy.linalg import blas

from convolutional_mlp import LeNet
from logistic_sgd import LogisticRegression
from mlp import MLP
from rbm import RBM
from SdA import SdA

N_EXAMPLES = 50_000
N_IN, N_CLASSES = 784, 10


class Data:
    """Random images, a fifth of their pixels not 0, and labels, in the shapes of MNIST."""

    def __init__(self):
        self.rng = numpy.random.RandomState(0)
        images = self.rng.uniform(size=(N_EXAMPLES, N_IN)).astype('float32')
        images *= self.rng.uniform(size=images.shape) < 0.2
        self.images = images
        self.labels = self.rng.randint(N_CLASSES, size=N_EXAMPLES)
        self.x = engine.shared_data(images)
        self.y = T.cast(engine.shared_data(self.labels), 'int32')

    def givens(self, x, y, index, batch_size):
        """A minibatch in place of ``x`` and ``y``."""
        return {x: engine.minibatch(self.x, index, batch_size),
                y: engine.minibatch(self.y, index, batch_size)}

    def of_layer(self, network, layer):
        """What a layer of the network is pretrained on, in place of its input."""
        if layer == 0:
            return {network.x: self.x}
        x = network.sigmoid_layers[layer].input
        return {x: engine.precomputed(x, network.x, self.x)}

    def matrix(self, *shape):
        """Random float32 numbers."""
        return self.rng.normal(size=shape).astype('float32')


def supervised(data: Data, model, batch_size: int, L2_reg: float = 0.) -> engine.Step:
    """The update of a supervised model; it has ``input``, ``params`` and a likelihood."""
    index, y = T.lscalar('index'), T.ivector('y')
    cost = model.negative_log_likelihood(y)
    if L2_reg:
        cost = cost + L2_reg * model.L2_sqr
    return engine.function([index], cost, sgd_updates(cost, model.params, 0.01),
                           data.givens(model.input, y, index, batch_size))


def logistic(data: Data):
    """Logistic regression, minibatches of 600; the floor is its two matrix products."""
    step = supervised(data, LogisticRegression(T.matrix('x'), N_IN, N_CLASSES), 600)
    W, difference = data.matrix(N_IN, N_CLASSES), data.matrix(600, N_CLASSES)

    def floor(index):
        x = data.images[600 * index:600 * (index + 1)]
        x @ W
        x.T @ difference

    return step, 83, floor


def perceptron(data: Data):
    """MLP with 500 hidden units, minibatches of 20."""
    model = MLP(numpy.random.RandomState(0), T.matrix('x'), N_IN, 500, N_CLASSES)
    step = supervised(data, model, 20, L2_reg=0.0001)
    W, V = data.matrix(N_IN, 500), data.matrix(500, N_CLASSES)
    h, dh, dy = data.matrix(20, 500), data.matrix(20, 500), data.matrix(20, N_CLASSES)
    gradient = numpy.empty_like(W)

    def floor(index):
        x = data.images[20 * index:20 * (index + 1)]
        x @ W
        h @ V
        dy @ V.T
        h.T @ dy
        numpy.matmul(x.T, dh, out=gradient)
        numpy.subtract(W, gradient, out=W)

    return step, 500, floor


def convolutional(data: Data):
    """LeNet, minibatches of 500; the floor is the products that it is made of.

    The first layer takes patches of 6 x 6 pixels to 2 x 2 places of its maps, the second layer goes
    by way of 72 frequencies: see :mod:`support.convolution`.
    """
    model = LeNet(numpy.random.RandomState(0), T.matrix('x'), (28, 28), (20, 50), N_CLASSES,
                  batch_size=500)
    step = supervised(data, model, 500)
    # The factors of each product, and whether an error passes to the left and to the right one.
    products = [
        (data.matrix(80, 36), data.matrix(36, 144 * 500), True, False),
        (data.matrix(144, 144), data.matrix(144, 20 * 500), False, True),
        (data.matrix(72, 100, 40), data.matrix(72, 40, 500), True, True),
        (data.matrix(64, 144), data.matrix(144, 50 * 500), False, True),
        (data.matrix(500, 800), data.matrix(800, 500), True, True)]
    errors = [a @ b for a, b, _, _ in products]

    def floor(index):
        for (a, b, to_a, to_b), error in zip(products, errors, strict=True):
            a @ b
            if to_a:
                error @ b.swapaxes(-1, -2)
            if to_b:
                a.swapaxes(-1, -2) @ error

    return step, 8, floor


def rank_one(W, column, row):
    """W + column row', in place, by BLAS; ``W`` is in Fortran's order."""
    blas.sger(-0.001, column, row, a=W, overwrite_a=1)


def auto_encoder(data: Data, layer: int):
    """Pretraining of a layer of the 3 x 1000 SdA, one example at a time."""
    sda = SdA(numpy.random.RandomState(0), n_ins=N_IN, hidden_layers_sizes=[1000] * 3,
              corruption_levels=[.1, .2, .3])
    step = sda.pretraining_function(layer, data.of_layer(sda, layer), batch_size=1)
    n_in = N_IN if layer == 0 else 1000
    W, v, h = numpy.asfortranarray(data.matrix(n_in, 1000)), data.matrix(n_in), data.matrix(1000)

    def floor(index):
        blas.sgemv(1, W, v, trans=1)
        blas.sgemv(1, W, h)
        blas.sgemv(1, W, v, trans=1)
        rank_one(W, v, h)
        rank_one(W, v, h)

    return step, 1000, floor


def finetuning(data: Data):
    """Finetuning of the 3 x 1000 SdA, one example at a time."""
    sda = SdA(numpy.random.RandomState(0), n_ins=N_IN, hidden_layers_sizes=[1000] * 3,
              corruption_levels=[.1, .2, .3])
    index = T.lscalar('index')
    step = engine.function([index], sda.finetune_cost,
                           sgd_updates(sda.finetune_cost, sda.params, 0.01),
                           data.givens(sda.x, sda.y, index, 1))
    weights = [numpy.asfortranarray(data.matrix(n_in, 1000)) for n_in in (N_IN, 1000, 1000)]
    units = [data.matrix(len(W)) for W in weights]
    h = data.matrix(1000)

    def floor(index):
        for i, (W, unit) in enumerate(zip(weights, units, strict=True)):
            blas.sgemv(1, W, unit, trans=1)
            if i:
                blas.sgemv(1, W, h)
            rank_one(W, unit, h)

    return step, 500, floor


def boltzmann_machine(data: Data):
    """PCD-15 with 20 chains; the floor is the 30 products of its Gibbs steps."""
    model = RBM(T.matrix('x'), N_IN, 500, numpy_rng=numpy.random.RandomState(0))
    chain = theano.shared(data.matrix(20, 500), name='chain')
    index = T.lscalar('index')
    cost, updates = model.get_cost_updates(0.01, chain, k=15)
    step = engine.function([index], cost, updates,
                           {model.input: engine.minibatch(data.x, index, 20)})
    W, v, h = data.matrix(N_IN, 500), data.matrix(20, N_IN), data.matrix(20, 500)

    def floor(index):
        for _ in range(15):
            h @ W.T
            v @ W

    return step, 100, floor


@dataclass(frozen=True)
class Row:
    """A line of the table: what makes our step and its floor, and PyTorch's of images and labels.

    :param prepare: gives the step, how many of them are timed in a call, and the floor
    :param peer: the name of a function of ``peers``, and its settings
    :param units: of the images that PyTorch is given, where they are not those of MNIST
    """

    name: str
    prepare: Callable[[Data], Any]
    peer: tuple[Any, ...]
    units: int = N_IN


ROWS = [
    Row('logistic regression, batch 600', logistic, ('logistic',)),
    Row('MLP 784-500-10, batch 20', perceptron, ('perceptron',)),
    Row('LeNet 20-50-500-10, batch 500', convolutional, ('convolutional',)),
    Row('SdA layer 0 (dA 784-1000), batch 1', lambda data: auto_encoder(data, 0),
        ('auto_encoder', N_IN)),
    Row('SdA layer 1 (dA 1000-1000), batch 1', lambda data: auto_encoder(data, 1),
        ('auto_encoder', 1000), 1000),
    Row('SdA finetuning, batch 1', finetuning, ('finetuning',)),
    Row('RBM 784-500, PCD-15, batch 20', boltzmann_machine,
        ('boltzmann_machine', 500, 20, 15, True)),
]


def peer_of(row: Row, data: Data, n_updates: int) -> Callable[[], None]:
    """A call of PyTorch's steps, on the device that ours run on."""
    import peers

    name, *settings = row.peer
    images = data.images if row.units == N_IN else data.rng.uniform(
        size=(N_EXAMPLES, row.units)).astype('float32')
    peers.run_on(engine.device())
    step = getattr(peers, name)(*settings, images, data.labels)

    def steps() -> None:
        repeated(step, n_updates)
        peers.finish()

    return steps


def measure(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each call. They are made in turn, for the speed of a machine drifts."""
    def seconds(call):
        time.sleep(0.5)  # idle threads of BLAS spin for a while, and would slow down others
        call()  # caches get used to it
        started = time.perf_counter()
        call()
        return time.perf_counter() - started

    rounds = [[seconds(call) for call in calls.values()] for _ in range(repeats)]
    return dict(zip(calls, numpy.median(rounds, axis=0), strict=True))


HEAD = ['update', 'measured', 'floor', 'ratio', 'PyTorch', 'ratio']


def cells(row: dict[str, Any]) -> list[str]:
    """A row of a record in words, for ``HEAD`` or, without PyTorch, for the first four of it."""
    words = [row['row'], f'{row["update"]:.0f} us']
    for other in ('floor', 'PyTorch'):
        if other in row:
            words += [f'{row[other]:.0f} us', f'{row["update"] / row[other]:.2f}']
    return words


def print_row(words: list[str]) -> None:
    """Print a row with columns that are wide enough."""
    print(f'{words[0]:37}' + ''.join(f'{word:>11}' for word in words[1:]), flush=True)


def benchmark(repeats: int = 9, peers: bool = False, only: tuple[str, ...] = (),
              record: Path | None = None) -> None:
    """Print microseconds an update, those of the floor, and their ratio.

    For example::

        python code/benchmark.py --only logistic RBM
        python code/benchmark.py --peers --repeats 5

    :param repeats: timed calls for each line; medians are printed
    :param peers: time PyTorch at the same steps as well
    :param only: only lines in whose name one of these words occurs
    :param record: a JSON file to write the table to
    """
    data = Data()
    print(f'PyTensor {theano.__version__}, {engine.mode_name()}, {theano.config.floatX}, '
          f'{engine.device()}')
    head = ['', *HEAD[1:], 'first call']
    if not peers:
        del head[4:6]
    print_row(head)
    table = []
    for row in ROWS:
        if only and not any(word in row.name for word in only):
            continue
        step, n_updates, floor = row.prepare(data)
        calls: dict[str, Callable[[], object]] = {
            'update': functools.partial(step.over, range(n_updates)),
            'floor': functools.partial(repeated, floor, n_updates)}
        if peers:
            calls['PyTorch'] = peer_of(row, data, n_updates)
        started = time.perf_counter()
        calls['update']()
        first = time.perf_counter() - started
        us = {name: round(1e6 * seconds / n_updates, 1)
              for name, seconds in measure(calls, repeats).items()}
        table.append({'row': row.name, **us})
        print_row([*cells(table[-1]), f'{first:.1f} s'])
    if record is not None:
        write_json(record, {
            'python': platform.python_version(), 'pytensor': theano.__version__,
            **({'PyTorch': metadata.version('torch')} if peers else {}),
            'mode': engine.mode_name(), 'device': engine.device(), 'cores': os.cpu_count(),
            'repeats': repeats,
            'microseconds': table})


def repeated(call: Callable[[int], None], n: int) -> None:
    """Call it with the numbers from 0 to ``n``."""
    for index in range(n):
        call(index)


if __name__ == '__main__':
    command_line.main(benchmark)
