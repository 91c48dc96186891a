"""How long one update takes, beside what cannot be avoided: the floor, timed in the same run.

The floor is the matrix products of the update, and the passes over weights and data that they do
not include, done one after the other by NumPy. The update is timed inside a call that runs many,
as in training. Seconds depend on the machine and its other work; the ratios say more.
"""

import time
from collections.abc import Callable

from support import command_line, engine
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
        self.x = engine.shared_data(images)
        self.y = T.cast(engine.shared_data(self.rng.randint(N_CLASSES, size=N_EXAMPLES)), 'int32')

    def givens(self, x, y, index, batch_size):
        """A minibatch in place of ``x`` and ``y``."""
        return {x: engine.minibatch(self.x, index, batch_size),
                y: engine.minibatch(self.y, index, batch_size)}

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
    """LeNet, minibatches of 500.

    The floor is the products that yield 2 x 2 places of the feature maps at once from 6 x 6 of
    the layer below. BLAS takes longer for those that yield one place at a time, though they have
    less to multiply: they are narrow.
    """
    model = LeNet(numpy.random.RandomState(0), T.matrix('x'), (28, 28), (20, 50), N_CLASSES,
                  batch_size=500)
    step = supervised(data, model, 500)
    # Patches, and what becomes of them: 12 x 12 of one channel, then 4 x 4 of 20 channels.
    layer0 = data.matrix(500 * 144, 36), data.matrix(36, 80), data.matrix(500 * 144, 80)
    layer1 = data.matrix(500 * 16, 720), data.matrix(720, 200), data.matrix(500 * 16, 200)
    layer2 = data.matrix(500, 800), data.matrix(800, 500), data.matrix(500, 500)

    def floor(index):
        for x, W, difference in (layer0, layer1, layer2):
            x @ W
            x.T @ difference
            if x is not layer0[0]:  # which no error passes down to
                difference @ W.T

    return step, 8, floor


def rank_one(W, column, row):
    """W + column row', in place, by BLAS; ``W`` is in Fortran's order."""
    blas.sger(-0.001, column, row, a=W, overwrite_a=1)


def auto_encoder(data: Data, layer: int):
    """Pretraining of a layer of the 3 x 1000 SdA, one example at a time."""
    sda = SdA(numpy.random.RandomState(0), n_ins=N_IN, hidden_layers_sizes=[1000] * 3,
              corruption_levels=[.1, .2, .3])
    step = sda.pretraining_functions(data.x, batch_size=1)[layer]
    weights = [numpy.asfortranarray(data.matrix(N_IN if i == 0 else 1000, 1000))
               for i in range(layer + 1)]
    units = [data.matrix(len(W)) for W in weights]
    h, W = data.matrix(1000), weights[-1]

    def floor(index):
        for below, unit in zip(weights, units, strict=True):
            blas.sgemv(1, below, unit, trans=1)
        blas.sgemv(1, W, h)
        blas.sgemv(1, W, units[-1], trans=1)
        rank_one(W, units[-1], h)
        rank_one(W, units[-1], h)

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


MEASUREMENTS = {
    'logistic regression, batch 600': logistic,
    'MLP 784-500-10, batch 20': perceptron,
    'LeNet 20-50-500-10, batch 500': convolutional,
    'SdA layer 0 (dA 784-1000), batch 1': lambda data: auto_encoder(data, 0),
    'SdA layer 1, batch 1': lambda data: auto_encoder(data, 1),
    'SdA layer 2, batch 1': lambda data: auto_encoder(data, 2),
    'SdA finetuning, batch 1': finetuning,
    'RBM 784-500, PCD-15, batch 20': boltzmann_machine,
}


def measure(step: engine.Step, n_updates: int, floor: Callable[[int], None],
            repeats: int) -> tuple[float, float, float]:
    """Median seconds of an update and of its floor, and the seconds of the first call."""
    def run_floor():
        for index in range(n_updates):
            floor(index)

    def run_step():
        step.over(range(n_updates))

    def seconds(call):
        time.sleep(0.5)  # idle threads of BLAS spin for a while, and would slow down others
        call()  # caches get used to it
        started = time.perf_counter()
        call()
        return time.perf_counter() - started

    started = time.perf_counter()
    run_step()
    first = time.perf_counter() - started
    # In turn, for the speed of a machine drifts.
    pairs = [(seconds(run_step), seconds(run_floor)) for _ in range(repeats)]
    updates, floors = numpy.median(pairs, axis=0) / n_updates
    return updates, floors, first


def benchmark(repeats: int = 9) -> None:
    """Print microseconds an update, those of the floor, and their ratio.

    :param repeats: timed calls for each line; medians are printed
    """
    data = Data()
    print(f'PyTensor {theano.__version__}, {engine.mode_name()}, {theano.config.floatX}')
    print(f'{"":36} {"update":>9} {"floor":>9} {"ratio":>6}   first call')
    for name, prepare in MEASUREMENTS.items():
        step, n_updates, run_floor = prepare(data)
        update, floor, first = measure(step, n_updates, run_floor, repeats)
        print(f'{name:36} {1e6 * update:6.0f} us {1e6 * floor:6.0f} us {update / floor:6.2f} '
              f'{first:10.1f} s', flush=True)


if __name__ == '__main__':
    command_line.main(benchmark)
