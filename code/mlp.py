r"""Multilayer perceptron: logistic regression on features that are learnt.

A hidden layer transforms the input by a learnt, non-linear map, and logistic regression works on
what comes out. With one hidden layer of tanh units:

.. math::
    f(x) = \mathrm{softmax}(b^{(2)} + \tanh(b^{(1)} + x W^{(1)}) W^{(2)})

All parameters follow the gradient of the negative log-likelihood, to which penalties on the size
of the weights may be added: :math:`\lambda_1 \sum |W|` and :math:`\lambda_2 \sum W^2`.

There may be more hidden layers, other non-linearities, and dropout: in every training step some
hidden units, drawn anew, are absent.

References:
    - C. M. Bishop, "Pattern Recognition and Machine Learning", 2006, chapter 5
    - X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
      networks", 2010, for the initial weights
    - K. He, X. Zhang, S. Ren, J. Sun, "Delving deep into rectifiers", 2015, for those of rectifiers
    - N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov, "Dropout: a simple
      way to prevent neural networks from overfitting", 2014
"""

from collections.abc import Callable, Sequence
from typing import Any

from support import command_line, engine, likeness, training
from support.checkpoints import Run, resumable
from support.draws import RandomStreams, random_updates
from support.errors import check, choose
from support.optimisers import OPTIMISERS

import numpy
import pytensor as theano
import pytensor.tensor as T
from pytensor.compile.sharedvalue import SharedVariable

from logistic_sgd import LogisticRegression, load_data, minibatch_givens, scoring_functions

Activation = Callable[[T.TensorVariable], T.TensorVariable]


def relu(a: T.TensorVariable) -> T.TensorVariable:
    """The rectifier: max(a, 0), entry by entry."""
    return T.maximum(a, 0)


ACTIVATIONS: dict[str, Activation] = {'tanh': T.tanh, 'relu': relu, 'sigmoid': T.sigmoid}


def initial_bound(activation: Activation | None, n_in: int, n_out: int) -> float:
    """Up to which size the initial weights of a layer are drawn, uniformly.

    :param n_in: number of inputs of a unit
    :param n_out: number of units that each input feeds
    """
    if activation is relu:
        # He et al. (2015): half of the signal is cut off, and the rest has to make up for it.
        return numpy.sqrt(6. / n_in)
    # Glorot and Bengio (2010): with this spread, activations and gradients keep their size from
    # layer to layer. The sigmoid is four times less steep at 0 than tanh.
    return (4 if activation is T.sigmoid else 1) * numpy.sqrt(6. / (n_in + n_out))


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
                 activation: Activation | None = T.tanh):
        if W is None:
            bound = initial_bound(activation, n_in, n_out)
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


def dropped(x: T.TensorVariable, fraction: float, streams: RandomStreams) -> T.TensorVariable:
    """Inverted dropout: each entry is 0 with this probability, and the others are made so much
    larger that the mean stays. (Srivastava et al., 2014, section 10.)"""
    return streams.bernoulli(x.shape, 1 - fraction) * x / (1 - fraction)


class MLP:
    """Hidden layers under logistic regression.

    :param rng: where the initial weights, and the seed of the dropout, are drawn from
    :param input: symbolic minibatch, (batch_size, n_in)
    :param n_in: number of input units
    :param n_hidden: number of hidden units, or that of each hidden layer from the lowest up
    :param n_out: number of classes
    :param activation: elementwise non-linearity of the hidden units
    :param dropout: fraction of the hidden units that are absent in ``negative_log_likelihood``,
        whose updates have to include its ``random_updates`` then. In ``errors``,
        ``p_y_given_x`` and ``y_pred`` all are there.
    :raises UserError: when there is a layer without units, or no layer, or if all units are dropped
    """

    def __init__(self, rng: numpy.random.RandomState, input: T.TensorVariable, n_in: int,
                 n_hidden: int | Sequence[int], n_out: int, activation: Activation = T.tanh,
                 dropout: float = 0.):
        check(1, n_hidden=n_hidden)
        check(0, 0.99, dropout=dropout)
        self.hiddenLayers = []
        output, n_below = input, n_in
        for n_units in numpy.atleast_1d(n_hidden).tolist():
            layer = HiddenLayer(rng, output, n_below, n_units, activation=activation)
            self.hiddenLayers.append(layer)
            output, n_below = layer.output, n_units
        self.hiddenLayer = self.hiddenLayers[0]
        self.logRegressionLayer = LogisticRegression(output, n_below, n_out)

        # Penalties keep weights small, and the function that they make smooth; biases are free.
        weights = [*(layer.W for layer in self.hiddenLayers), self.logRegressionLayer.W]
        self.L1 = sum(T.sum(abs(W)) for W in weights)
        self.L2_sqr = sum(T.sum(W ** 2) for W in weights)

        self.negative_log_likelihood = self.logRegressionLayer.negative_log_likelihood
        self.errors = self.logRegressionLayer.errors
        self.p_y_given_x = self.logRegressionLayer.p_y_given_x
        self.y_pred = self.logRegressionLayer.y_pred
        self.params = [*(param for layer in self.hiddenLayers for param in layer.params),
                       *self.logRegressionLayer.params]
        self.input = input
        if dropout > 0:
            # The same layers once more, for training.
            streams = RandomStreams(rng.randint(2 ** 30))
            output = input
            for layer in self.hiddenLayers:
                output = activation(T.dot(output, layer.W) + layer.b)
                output = dropped(output, dropout, streams)
            self.negative_log_likelihood = LogisticRegression(
                output, n_below, n_out, *self.logRegressionLayer.params).negative_log_likelihood


def build(n_in: int, n_hidden: int | Sequence[int], n_out: int, activation: str = 'tanh') -> MLP:
    """A classifier with an input of its own, for parameters that were saved."""
    return MLP(numpy.random.RandomState(), T.matrix('x'), n_in, n_hidden, n_out,
               choose(ACTIVATIONS, activation=activation))


@resumable
def train(learning_rate: float = 0.01, L1_reg: float = 0.0, L2_reg: float = 0.0001,
          n_epochs: int = 1000, dataset: str | None = None, batch_size: int = 20,
          n_hidden: int | tuple[int, ...] = 500, activation: str = 'tanh', dropout: float = 0.0,
          optimiser: str = 'sgd', seed: int | None = None, output_folder: str = 'mlp_output',
          resume: bool = False, overwrite: bool = False) -> training.Result:
    """Train a multilayer perceptron by minibatch stochastic gradient descent.

    For example::

        python code/mlp.py --dataset digits --n-epochs 10
        python code/mlp.py --n-hidden 500 300 --activation relu --dropout 0.2

    :param learning_rate: length of a step down the gradient
    :param L1_reg: weight of the L1 norm of the weights in the cost
    :param L2_reg: weight of the squared L2 norm of the weights in the cost
    :param n_epochs: passes through the training set, at most
    :param dataset: MNIST when left out; a file or a folder of images, or digits
    :param batch_size: examples in a minibatch
    :param n_hidden: number of hidden units; for several layers, that of each from the lowest up
    :param activation: what the hidden units are: tanh, relu or sigmoid
    :param dropout: fraction of the hidden units that are absent in a training step
    :param optimiser: sgd, momentum, nesterov, rmsprop or adam; the last two are for learning rates
        of about 0.001
    :param seed: of the initial weights and the dropout; 1234 when left out
    :param output_folder: for checkpoints, the best model and the history
    :param resume: go on with the run in the output folder
    :param overwrite: replace the run in the output folder
    """
    seed = 1234 if seed is None else seed
    settings = dict(locals())
    check(0, learning_rate=learning_rate, L1_reg=L1_reg, L2_reg=L2_reg, n_epochs=n_epochs,
          seed=seed)
    updates = choose(OPTIMISERS, optimiser=optimiser)
    activate = choose(ACTIVATIONS, activation=activation)
    data = load_data(dataset)

    print('... building the model', flush=True)
    index = T.lscalar('index')  # of a minibatch
    x = T.matrix('x')  # images, one flattened image a row
    y = T.ivector('y')  # labels
    sizes: dict[str, Any] = {'n_in': data.n_in, 'n_hidden': n_hidden, 'n_out': data.n_classes}
    classifier = MLP(numpy.random.RandomState(seed), input=x, activation=activate,
                     dropout=dropout, **sizes)
    cost = (classifier.negative_log_likelihood(y)
            + L1_reg * classifier.L1
            + L2_reg * classifier.L2_sqr)

    train_model = engine.function(
        inputs=[index], outputs=cost,
        updates=(updates(classifier.params, T.grad(cost, classifier.params), learning_rate)
                 + random_updates(cost)),
        givens=minibatch_givens(x, y, data[0], index, batch_size))
    validate_model, test_model = scoring_functions(classifier.errors(y), x, y, data, batch_size)

    with Run('mlp', settings, data, classifier.params, sizes | {'activation': activation},
             ['n_epochs']) as run:
        likeness.save(run, data)
        print('... training', flush=True)
        scores = training.train_with_early_stopping(
            run, train_model, validate_model, test_model, n_epochs, patience=10000)
        return training.result(run, classifier, scores)


test_mlp = train  # its name in the old tutorials


if __name__ == '__main__':
    command_line.main(train)
