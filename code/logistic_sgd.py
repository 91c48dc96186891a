r"""Logistic regression: the simplest classifier, and the data and training of all that follow.

An input :math:`x` is projected onto one hyperplane for each class; how far it lies on the right
side of hyperplane :math:`i` gives the probability that it belongs to class :math:`i`:

.. math::
    P(Y = i \mid x, W, b) = \mathrm{softmax}_i(x W + b)
                          = \frac{e^{x W_i + b_i}}{\sum_j e^{x W_j + b_j}}

and the prediction is the most probable class. The parameters :math:`W, b` are fitted by
stochastic gradient descent on the negative log-likelihood, one minibatch at a time, and training
stops when the error on the validation set no longer falls.

References:
    - C. M. Bishop, "Pattern Recognition and Machine Learning", 2006, section 4.3.2
    - Y. Bengio, "Practical recommendations for gradient-based training of deep architectures",
      2012, for minibatches and early stopping
"""

from collections.abc import Callable
from typing import Any, Protocol

from support import command_line, datasets, engine, likeness, training
from support.checkpoints import Run, resumable
from support.errors import check, choose
from support.optimisers import OPTIMISERS

import numpy
import pytensor as theano
import pytensor.tensor as T
from pytensor.compile.sharedvalue import SharedVariable


class Classifier(Protocol):
    """What every model has that can be asked for the class of an image."""

    input: T.TensorVariable
    p_y_given_x: T.TensorVariable
    params: list[SharedVariable]


class LogisticRegression:
    """Multi-class logistic regression.

    :param input: symbolic minibatch, (batch_size, n_in)
    :param n_in: number of input units
    :param n_out: number of classes
    :param W: weights, (n_in, n_out), to use instead of new ones
    :param b: biases, (n_out,), to use instead of new ones
    """

    def __init__(self, input: T.TensorVariable, n_in: int, n_out: int,
                 W: T.TensorVariable | None = None, b: T.TensorVariable | None = None):
        # Zeros will do: the cost is convex, so every start leads to the same minimum.
        if W is None:
            W = theano.shared(numpy.zeros((n_in, n_out), dtype=theano.config.floatX), name='W')
        if b is None:
            b = theano.shared(numpy.zeros(n_out, dtype=theano.config.floatX), name='b')
        self.W = W
        self.b = b
        self.n_out = n_out

        # One hyperplane a column of W, one example a row of the input.
        self.activation = T.dot(input, self.W) + self.b  # (batch_size, n_out)
        self.p_y_given_x = T.special.softmax(self.activation, axis=1)
        self.y_pred = T.argmax(self.p_y_given_x, axis=1)  # (batch_size,)

        self.params = [self.W, self.b]
        self.input = input

    def negative_log_likelihood(self, y: T.TensorVariable) -> T.TensorVariable:
        r"""Mean over the minibatch of :math:`-\log P(Y = y \mid x)`.

        The mean, not the sum, so that a good learning rate depends less on the batch size.

        :param y: labels, int32 (batch_size,)
        :return: scalar
        """
        # log_softmax stays finite where the probability itself is rounded to 0. Comparing with
        # every class picks the entries that log_p[arange(n), y] would, but the gradient of that
        # indexing is slow.
        log_p = T.special.log_softmax(self.activation, axis=1)
        is_label = T.eq(y[:, None], T.arange(self.n_out))
        return -T.mean(T.sum(T.switch(is_label, log_p, 0), axis=1))

    def errors(self, y: T.TensorVariable) -> T.TensorVariable:
        """The zero-one loss: the fraction of the minibatch that is misclassified.

        :param y: labels, int32 (batch_size,)
        :return: scalar
        :raises TypeError: when ``y`` has not the number of dimensions of the prediction
        :raises NotImplementedError: when ``y`` is not of an integer type
        """
        if y.ndim != self.y_pred.ndim:
            raise TypeError('y should have the same number of dimensions as self.y_pred',
                            ('y', y.type, 'y_pred', self.y_pred.type))
        if not y.dtype.startswith(('int', 'uint')):
            raise NotImplementedError(f'labels have to be integers, not {y.dtype}')
        return T.mean(T.neq(self.y_pred, y), dtype=theano.config.floatX)


def build(n_in: int, n_out: int) -> LogisticRegression:
    """A classifier with an input of its own, for parameters that were saved."""
    return LogisticRegression(T.matrix('x'), n_in, n_out)


def get_p_y_given_x(classifier: Classifier) -> Callable[[numpy.ndarray], numpy.ndarray]:
    """Compile the function from images to the probabilities of the classes.

    :param classifier: any model with ``input`` and ``p_y_given_x``: this one, an MLP, an SdA
    :return: a function from floatX (n_examples, n_in) in [0, 1] to (n_examples, n_out)
    """
    function = theano.function([classifier.input], classifier.p_y_given_x)
    return lambda images: numpy.asarray(function(images))


def classify(classifier: Classifier, images: numpy.ndarray) -> numpy.ndarray:
    """The most probable class of each image.

    :param images: floatX (n_examples, n_in) in [0, 1]
    :return: integers (n_examples,)
    """
    return get_p_y_given_x(classifier)(images).argmax(axis=1)


class SharedDataSets(list):
    """``[(train_x, train_y), (valid_x, valid_y), (test_x, test_y)]`` and what is known of them.

    x is a shared variable, floatX (n_examples, n_in) in [0, 1]; y is symbolic, int32
    (n_examples,). Both live on the device that the functions run on.
    """

    def __init__(self, data: datasets.ImageData):
        # Labels are stored as floatX, like all that lives on the device, and used as integers.
        super().__init__((engine.shared_data(x), T.cast(engine.shared_data(y), 'int32'))
                         for x, y in (data.train, data.valid, data.test))
        self.name = data.name
        self.sha256 = data.sha256
        self.image_shape = data.image_shape
        self.n_in = data.n_in
        self.n_classes = data.n_classes
        self.classes = data.classes


def load_data(dataset: str | None = None) -> SharedDataSets:
    """Load a data set onto the device.

    :param dataset: a file, a folder or a name that :func:`support.datasets.read` knows; None for
        MNIST, or, where that can be neither found nor downloaded, the project's own ``digits``
    :return: three pairs of images and labels
    :raises UserError: when the data set is missing or broken
    """
    print('... loading data', flush=True)
    return SharedDataSets(datasets.read(dataset))


def minibatch_givens(x: T.TensorVariable, y: T.TensorVariable,
                     data_set: tuple[T.TensorVariable, T.TensorVariable], index: T.TensorVariable,
                     batch_size: int) -> dict[T.TensorVariable, T.TensorVariable]:
    """What takes the place of a model's ``x`` and ``y`` when it works on a minibatch.

    :param data_set: images and labels, one of the three pairs of :func:`load_data`
    :param index: symbolic number of the minibatch
    :return: ``givens`` for :func:`support.engine.function`
    """
    images, labels = data_set
    return {x: engine.minibatch(images, index, batch_size),
            y: engine.minibatch(labels, index, batch_size)}


def scoring_functions(errors: T.TensorVariable, x: T.TensorVariable, y: T.TensorVariable,
                      data: SharedDataSets, batch_size: int) -> list[Callable[[], list[float]]]:
    """Compile the scoring of the validation and of the test set.

    :param errors: zero-one loss of a minibatch, a scalar graph of ``x`` and ``y``
    :param x: symbolic images of a minibatch
    :param y: symbolic labels
    :return: for each of the two, a function without arguments that returns the error of every
        minibatch
    """
    index = T.lscalar('index')  # of a minibatch
    return [training.error_rates(engine.function(
        inputs=[index], outputs=errors,
        givens=minibatch_givens(x, y, data_set, index, batch_size))) for data_set in data[1:]]


@resumable
def train(learning_rate: float = 0.13, n_epochs: int = 1000, dataset: str | None = None,
          batch_size: int = 600, optimiser: str = 'sgd', seed: int | None = None,
          output_folder: str = 'logistic_sgd_output', resume: bool = False,
          overwrite: bool = False) -> training.Result:
    """Train logistic regression by minibatch stochastic gradient descent.

    For example::

        python code/logistic_sgd.py --dataset digits --n-epochs 20
        python code/logistic_sgd.py --optimiser adam --learning-rate 0.001

    :param learning_rate: length of a step down the gradient
    :param n_epochs: passes through the training set, at most
    :param dataset: MNIST when left out; a file or a folder of images, or digits
    :param batch_size: examples in a minibatch
    :param optimiser: sgd, momentum, nesterov, rmsprop or adam; the last two are for learning rates
        of about 0.001
    :param seed: of no effect: there is nothing random in this script
    :param output_folder: for checkpoints, the best model and the history
    :param resume: go on with the run in the output folder
    :param overwrite: replace the run in the output folder
    """
    seed = 0 if seed is None else seed
    settings = dict(locals())
    check(0, learning_rate=learning_rate, n_epochs=n_epochs, seed=seed)
    updates = choose(OPTIMISERS, optimiser=optimiser)
    data = load_data(dataset)

    print('... building the model', flush=True)
    index = T.lscalar('index')  # of a minibatch
    x = T.matrix('x')  # images, one flattened image a row
    y = T.ivector('y')  # labels
    sizes: dict[str, Any] = {'n_in': data.n_in, 'n_out': data.n_classes}
    classifier = LogisticRegression(input=x, **sizes)
    cost = classifier.negative_log_likelihood(y)

    train_model = engine.function(
        inputs=[index], outputs=cost,
        updates=updates(classifier.params, T.grad(cost, classifier.params), learning_rate),
        givens=minibatch_givens(x, y, data[0], index, batch_size))
    validate_model, test_model = scoring_functions(classifier.errors(y), x, y, data, batch_size)

    with Run('logistic_sgd', settings, data, classifier.params, sizes, ['n_epochs']) as run:
        likeness.save(run, data)
        print('... training the model', flush=True)
        scores = training.train_with_early_stopping(
            run, train_model, validate_model, test_model, n_epochs, patience=5000)
        return training.result(run, classifier, scores)


sgd_optimization_mnist = train  # its name in the old tutorials


if __name__ == '__main__':
    command_line.main(train)
