r"""Convolutional network: LeNet, whose features are the same at every place of an image.

A hidden unit of a convolutional layer looks at a small part of its input, and the units of one
feature map all do so with the same weights, each at its own place. The map with the number k is

.. math::
    h^k = \tanh(\mathrm{maxpool}(W^k * x) + b_k)

where :math:`*` is the convolution of the images, or of all the maps of the layer below, with a
filter :math:`W^k`,

.. math::
    (W^k * x)_{ij} = \sum_l \sum_{p, q} W^{kl}_{pq} \, x^l_{i - p, j - q}

and max-pooling keeps the largest number of each window of 2 x 2: what was found matters more than
where exactly. Two such layers, each with smaller and more numerous maps than the one before, lie
under a multilayer perceptron:

    1 image of 28 x 28 -> 20 maps of 12 x 12 -> 50 maps of 4 x 4 -> 500 units -> 10 classes

References:
    - Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document
      recognition", 1998
    - X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
      networks", 2010, for the initial weights
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support import command_line, engine, likeness, training
from support.checkpoints import Run, resumable
from support.convolution import conv2d, max_pool_2d
from support.draws import random_updates
from support.errors import UserError, check, choose
from support.optimisers import OPTIMISERS
from support.tiles import save_filters

import numpy
import pytensor as theano
import pytensor.tensor as T

from logistic_sgd import load_data, minibatch_givens, scoring_functions
from mlp import ACTIVATIONS, MLP, Activation, initial_bound

FILTER_SIZE = (5, 5)
POOL_SIZE = (2, 2)
N_HIDDEN = 500


class LeNetConvPoolLayer:
    r"""A convolutional layer with max-pooling, :math:`\tanh(\mathrm{maxpool}(W * x) + b)`.

    :param rng: where the initial weights are drawn from
    :param input: symbolic images or feature maps, of shape ``image_shape``
    :param filter_shape: (n_filters, n_input_maps, filter_height, filter_width)
    :param image_shape: (batch_size, n_input_maps, image_height, image_width); the first may be
        None, for any number
    :param poolsize: (height, width) of the windows of which the maximum is kept
    :param activation: elementwise non-linearity in the place of tanh, which never falls
    """

    def __init__(self, rng: numpy.random.RandomState, input: T.TensorVariable,
                 filter_shape: tuple[int, int, int, int],
                 image_shape: tuple[int | None, int, int, int],
                 poolsize: tuple[int, int] = (2, 2), activation: Activation = T.tanh):
        # As in a HiddenLayer: each unit has this many inputs, and feeds about so many units above.
        fan_in = math.prod(filter_shape[1:])
        fan_out = filter_shape[0] * math.prod(filter_shape[2:]) // math.prod(poolsize)
        bound = initial_bound(activation, fan_in, fan_out)
        W_values = rng.uniform(low=-bound, high=bound, size=filter_shape)
        self.W = theano.shared(W_values.astype(theano.config.floatX), name='W',
                               shape=tuple(filter_shape))
        self.b = theano.shared(numpy.zeros(filter_shape[0], dtype=theano.config.floatX), name='b')
        self.input = input

        convolved = conv2d(T.specify_shape(input, image_shape), self.W)
        pooled = max_pool_2d(convolved, poolsize, ignore_border=True)
        # One bias for all of a map, and tanh after pooling: the same numbers from a quarter of
        # the work.
        self.output = activation(pooled + self.b.dimshuffle('x', 0, 'x', 'x'))
        self.params = [self.W, self.b]


class LeNet:
    """Two convolutional layers under a multilayer perceptron.

    :param rng: where the initial weights are drawn from, the lowest layer's first
    :param input: symbolic minibatch, (batch_size, height * width), one flattened image a row
    :param image_shape: (height, width) of an image
    :param nkerns: number of feature maps of the two convolutional layers
    :param n_out: number of classes
    :param batch_size: number of rows of ``input``; None for any number
    :param n_hidden: number of units in the fully connected layer, or in each of several
    :param activation: elementwise non-linearity of all layers but the last
    :param dropout: fraction of the fully connected units that are absent in training, as in
        :class:`mlp.MLP`
    :raises UserError: when the images are too small
    """

    def __init__(self, rng: numpy.random.RandomState, input: T.TensorVariable,
                 image_shape: tuple[int, int], nkerns: tuple[int, int], n_out: int,
                 batch_size: int | None = None, n_hidden: int | Sequence[int] = N_HIDDEN,
                 activation: Activation = T.tanh, dropout: float = 0.):
        maps_0 = pooled_size(image_shape)  # 28 x 28 -> 12 x 12
        maps_1 = pooled_size(maps_0)  # 12 x 12 -> 4 x 4
        if min(maps_1) < 1:
            least = [((1 * p + k - 1) * p + k - 1) for p, k in zip(POOL_SIZE, FILTER_SIZE,
                                                                  strict=True)]
            raise UserError(f'images of {image_shape[0]} x {image_shape[1]} pixels are too small '
                            f'for LeNet, which needs {least[0]} x {least[1]}')
        self.layer0 = LeNetConvPoolLayer(
            rng, input.reshape((-1 if batch_size is None else batch_size, 1, *image_shape)),
            filter_shape=(nkerns[0], 1, *FILTER_SIZE),
            image_shape=(batch_size, 1, *image_shape), poolsize=POOL_SIZE, activation=activation)
        self.layer1 = LeNetConvPoolLayer(
            rng, self.layer0.output,
            filter_shape=(nkerns[1], nkerns[0], *FILTER_SIZE),
            image_shape=(batch_size, nkerns[0], *maps_0), poolsize=POOL_SIZE,
            activation=activation)
        # From here on, where a number stands in a map makes no difference to what it is.
        n_in = nkerns[1] * math.prod(maps_1)
        mlp = MLP(
            rng, self.layer1.output.reshape((-1 if batch_size is None else batch_size, n_in)),
            n_in, n_hidden, n_out, activation, dropout)
        self.layer2, self.layer3 = mlp.hiddenLayer, mlp.logRegressionLayer

        self.negative_log_likelihood = mlp.negative_log_likelihood
        self.errors = mlp.errors
        self.p_y_given_x = mlp.p_y_given_x
        self.y_pred = mlp.y_pred
        self.params = (self.layer3.params + mlp.params[:-2] + self.layer1.params
                       + self.layer0.params)
        self.input = input


def pooled_size(image_shape: Sequence[int]) -> tuple[int, int]:
    """Height and width of the maps that a layer of LeNet makes of images of ``image_shape``."""
    height, width = ((size - k + 1) // p for size, k, p
                     in zip(image_shape, FILTER_SIZE, POOL_SIZE, strict=True))
    return height, width


def build(image_shape: tuple[int, int], nkerns: tuple[int, int], n_out: int,
          n_hidden: int | Sequence[int] = N_HIDDEN, activation: str = 'tanh') -> LeNet:
    """A classifier with an input of its own, of any number of images, for saved parameters."""
    return LeNet(numpy.random.RandomState(), T.matrix('x'), image_shape, nkerns, n_out,
                 n_hidden=n_hidden, activation=choose(ACTIVATIONS, activation=activation))


def save_first_filters(path: Path, classifier: LeNet) -> None:
    """Write a picture of the filters of the lowest layer, ten in a row, eight times as large."""
    W = numpy.asarray(classifier.layer0.W.get_value())[:, 0]  # (n_filters, height, width)
    W = W.repeat(8, axis=1).repeat(8, axis=2)
    n_filters, height, width = W.shape
    save_filters(path, W.reshape(n_filters, height * width).T, (height, width),
                 tile_shape=(math.ceil(n_filters / 10), min(n_filters, 10)))


@resumable
def train(learning_rate: float = 0.1, n_epochs: int = 200, dataset: str | None = None,
          nkerns: tuple[int, int] = (20, 50), batch_size: int = 500,
          n_hidden: int | tuple[int, ...] = N_HIDDEN, activation: str = 'tanh',
          dropout: float = 0.0, optimiser: str = 'sgd', seed: int | None = None,
          output_folder: str = 'convolutional_mlp_output', resume: bool = False,
          overwrite: bool = False) -> training.Result:
    """Train LeNet by minibatch stochastic gradient descent.

    For example::

        python code/convolutional_mlp.py --n-epochs 5
        python code/convolutional_mlp.py --dataset shapes/ --output-folder shapes_output

    :param learning_rate: length of a step down the gradient
    :param n_epochs: passes through the training set, at most
    :param dataset: MNIST when left out; a file or a folder of images, or digits
    :param nkerns: number of feature maps of the two convolutional layers
    :param batch_size: examples in a minibatch
    :param n_hidden: number of units in the fully connected layer, or in each of several
    :param activation: what the units are: tanh, relu or sigmoid
    :param dropout: fraction of the fully connected units that are absent in a training step
    :param optimiser: sgd, momentum, nesterov, rmsprop or adam; the last two are for learning rates
        of about 0.001
    :param seed: of the initial weights and the dropout; 23455 when left out
    :param output_folder: for checkpoints, the best model, the history and a picture of filters
    :param resume: go on with the run in the output folder
    :param overwrite: replace the run in the output folder
    """
    seed = 23455 if seed is None else seed
    settings = dict(locals())
    check(0, learning_rate=learning_rate, n_epochs=n_epochs, seed=seed)
    check(1, nkerns=nkerns, batch_size=batch_size)
    updates = choose(OPTIMISERS, optimiser=optimiser)
    activate = choose(ACTIVATIONS, activation=activation)
    data = load_data(dataset)

    print('... building the model', flush=True)
    index = T.lscalar('index')  # of a minibatch
    x = T.matrix('x')  # images, one flattened image a row
    y = T.ivector('y')  # labels
    sizes: dict[str, Any] = {'image_shape': data.image_shape, 'nkerns': nkerns,
                             'n_out': data.n_classes, 'n_hidden': n_hidden}
    classifier = LeNet(numpy.random.RandomState(seed), x, batch_size=batch_size,
                       activation=activate, dropout=dropout, **sizes)
    cost = classifier.negative_log_likelihood(y)

    train_model = engine.function(
        inputs=[index], outputs=cost,
        updates=(updates(classifier.params, T.grad(cost, classifier.params), learning_rate)
                 + random_updates(cost)),
        givens=minibatch_givens(x, y, data[0], index, batch_size))
    validate_model, test_model = scoring_functions(classifier.errors(y), x, y, data, batch_size)

    with Run('convolutional_mlp', settings, data, classifier.params,
             sizes | {'activation': activation}, ['n_epochs']) as run:
        likeness.save(run, data)
        print('... training', flush=True)
        scores = training.train_with_early_stopping(
            run, train_model, validate_model, test_model, n_epochs, patience=10000)
        save_first_filters(run.file('filters.png'), classifier)
        return training.result(run, classifier, scores)


evaluate_lenet5 = train  # its name in the old tutorials


if __name__ == '__main__':
    command_line.main(train)
