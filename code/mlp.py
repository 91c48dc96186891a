r"""Multilayer perceptron: logistic regression on features that are learnt.

A hidden layer transforms the input by a learnt, non-linear map, and logistic regression works on
what comes out. With one hidden layer:

.. math::
    f(x) = \mathrm{softmax}(b^{(2)} + \tanh(b^{(1)} + x W^{(1)}) W^{(2)})

All parameters follow the gradient of the negative log-likelihood, to which penalties on the size
of the weights may be added: :math:`\lambda_1 \sum |W|` and :math:`\lambda_2 \sum W^2`.

References:
    - C. M. Bishop, "Pattern Recognition and Machine Learning", 2006, chapter 5
    - X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
      networks", 2010, for the initial weights
"""

from collections.abc import Callable
from typing import Any

from support import command_line, engine, training
from support.checkpoints import Run, resumable
from support.errors import check, choose
from support.optimisers import OPTIMISERS

import numpy
import pytensor as theano
import pytensor.tensor as T
from pytensor.compile.sharedvalue import SharedVariable

from logistic_sgd import LogisticRegression, load_data, minibatch_givens, scoring_functions


class HiddenLayer:
    r"""A fully connected layer, :math:`\mathrm{activation}(x W + b)`.

    :param rng: where the initial weights are drawn from
    :param input: symbolic minibatch, (batch_size, n_in)
    :param n_in: number of input units
    :param n_out: number of hidden units
    :param W: shared weights, (n_in, n_out), to use instead of new ones
    :param b: shared biases, (n_out,), to use instead of new ones
    :param activation: elementwise non-linearity; None for a linear layer
    """

    def __init__(self, rng: numpy.random.RandomState, input: T.TensorVariable, n_in: int,
                 n_out: int, W: SharedVariable | None = None, b: SharedVariable | None = None,
                 activation: Callable[[T.TensorVariable], T.TensorVariable] | None = T.tanh):
        if W is None:
            # Glorot and Bengio (2010): with this spread, activations and gradients keep their
            # size from layer to layer. The sigmoid is four times less steep at 0 than tanh.
            bound = numpy.sqrt(6. / (n_in + n_out))
            if activation is T.sigmoid:
                bound *= 4
            W_values = rng.uniform(low=-bound, high=bound, size=(n_in, n_out))
            W = theano.shared(W_values.astype(theano.config.floatX), name='W')
        if b is None:
            b = theano.shared(numpy.zeros(n_out, dtype=theano.config.floatX), name='b')
        self.W = W
        self.b = b
        self.input = input

        linear = T.dot(input, self.W) + self.b  # (batch_size, n_out)
        self.output = linear if activation is None else activation(linear)
        self.params = [self.W, self.b]


class MLP:
    """A hidden layer of tanh units under logistic regression.

    :param rng: where the initial weights are drawn from
    :param input: symbolic minibatch, (batch_size, n_in)
    :param n_in: number of input units
    :param n_hidden: number of hidden units
    :param n_out: number of classes
    """

    def __init__(self, rng: numpy.random.RandomState, input: T.TensorVariable, n_in: int,
                 n_hidden: int, n_out: int):
        self.hiddenLayer = HiddenLayer(rng, input, n_in, n_hidden, activation=T.tanh)
        self.logRegressionLayer = LogisticRegression(self.hiddenLayer.output, n_hidden, n_out)

        # Penalties keep weights small, and the function that they make smooth; biases are free.
        weights = [self.hiddenLayer.W, self.logRegressionLayer.W]
        self.L1 = sum(T.sum(abs(W)) for W in weights)
        self.L2_sqr = sum(T.sum(W ** 2) for W in weights)

        self.negative_log_likelihood = self.logRegressionLayer.negative_log_likelihood
        self.errors = self.logRegressionLayer.errors
        self.p_y_given_x = self.logRegressionLayer.p_y_given_x
        self.y_pred = self.logRegressionLayer.y_pred
        self.params = self.hiddenLayer.params + self.logRegressionLayer.params
        self.input = input


def build(n_in: int, n_hidden: int, n_out: int) -> MLP:
    """A classifier with an input of its own, for parameters that were saved."""
    return MLP(numpy.random.RandomState(), T.matrix('x'), n_in, n_hidden, n_out)


@resumable
def train(learning_rate: float = 0.01, L1_reg: float = 0.0, L2_reg: float = 0.0001,
          n_epochs: int = 1000, dataset: str | None = None, batch_size: int = 20,
          n_hidden: int = 500, optimiser: str = 'sgd', seed: int | None = None,
          output_folder: str = 'mlp_output', resume: bool = False,
          overwrite: bool = False) -> training.Result:
    """Train a multilayer perceptron by minibatch stochastic gradient descent.

    :param learning_rate: length of a step down the gradient
    :param L1_reg: weight of the L1 norm of the weights in the cost
    :param L2_reg: weight of the squared L2 norm of the weights in the cost
    :param n_epochs: passes through the training set, at most
    :param dataset: MNIST when left out; a file or a folder of images, or digits
    :param batch_size: examples in a minibatch
    :param n_hidden: number of hidden units
    :param optimiser: sgd, momentum, nesterov, rmsprop or adam; the last two are for learning rates
        of about 0.001
    :param seed: of the initial weights; 1234 when left out
    :param output_folder: for checkpoints, the best model and the history
    :param resume: go on with the run in the output folder
    :param overwrite: replace the run in the output folder
    """
    seed = 1234 if seed is None else seed
    settings = dict(locals())
    check(0, learning_rate=learning_rate, L1_reg=L1_reg, L2_reg=L2_reg, n_epochs=n_epochs,
          seed=seed)
    check(1, n_hidden=n_hidden)
    updates = choose(OPTIMISERS, optimiser=optimiser)
    data = load_data(dataset)

    print('... building the model', flush=True)
    index = T.lscalar('index')  # of a minibatch
    x = T.matrix('x')  # images, one flattened image a row
    y = T.ivector('y')  # labels
    sizes: dict[str, Any] = {'n_in': data.n_in, 'n_hidden': n_hidden, 'n_out': data.n_classes}
    classifier = MLP(numpy.random.RandomState(seed), input=x, **sizes)
    cost = (classifier.negative_log_likelihood(y)
            + L1_reg * classifier.L1
            + L2_reg * classifier.L2_sqr)

    train_model = engine.function(
        inputs=[index], outputs=cost,
        updates=updates(classifier.params, T.grad(cost, classifier.params), learning_rate),
        givens=minibatch_givens(x, y, data[0], index, batch_size))
    validate_model, test_model = scoring_functions(classifier.errors(y), x, y, data, batch_size)

    with Run('mlp', settings, data, classifier.params, sizes, ['n_epochs']) as run:
        print('... training', flush=True)
        scores = training.train_with_early_stopping(
            run, train_model, validate_model, test_model, n_epochs, patience=10000)
        return training.result(run, classifier, scores)


test_mlp = train  # its name in the old tutorials


if __name__ == '__main__':
    command_line.main(train)
