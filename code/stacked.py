"""What a stack of denoising auto-encoders and a deep belief network have in common.

Both are, in the end, the same multilayer perceptron: sigmoid layers under logistic regression.
They differ in how its layers are pretrained, one after the other, before all of them are
finetuned together by gradient descent on the negative log-likelihood.
"""

from collections.abc import Callable, Mapping, Sequence

from support import engine, likeness, training
from support.checkpoints import Run
from support.errors import check
from support.optimisers import sgd_updates

import numpy
import pytensor.tensor as T
from pytensor.compile.sharedvalue import SharedVariable

from logistic_sgd import (
    LogisticRegression,
    SharedDataSets,
    minibatch_givens,
    scoring_functions,
)
from mlp import HiddenLayer

LARGEST_PRECOMPUTED = 2 ** 27  # numbers: half a gigabyte of float32


class StackedNetwork:
    """Sigmoid layers under logistic regression.

    :param numpy_rng: where the initial weights are drawn from, one layer after the other
    :param n_ins: number of input units
    :param hidden_layers_sizes: number of units of each hidden layer, at least one layer
    :param n_outs: number of classes
    :raises UserError: when there is no hidden layer, or one without units
    """

    def __init__(self, numpy_rng: numpy.random.RandomState, n_ins: int,
                 hidden_layers_sizes: Sequence[int], n_outs: int):
        check(1, hidden_layers_sizes=hidden_layers_sizes)
        self.n_layers = len(hidden_layers_sizes)
        self.x = T.matrix('x')  # images, one flattened image a row
        self.y = T.ivector('y')  # labels

        self.sigmoid_layers = []
        self.params = []
        layer_input, n_in = self.x, n_ins
        for n_out in hidden_layers_sizes:
            layer = HiddenLayer(numpy_rng, layer_input, n_in, n_out, activation=T.sigmoid)
            self.sigmoid_layers.append(layer)
            self.params.extend(layer.params)
            layer_input, n_in = layer.output, n_out

        self.logLayer = LogisticRegression(layer_input, n_in, n_outs)
        self.params.extend(self.logLayer.params)
        self.finetune_cost = self.logLayer.negative_log_likelihood(self.y)
        self.errors = self.logLayer.errors(self.y)
        self.p_y_given_x = self.logLayer.p_y_given_x
        self.y_pred = self.logLayer.y_pred
        self.input = self.x

    def build_finetune_functions(
            self, datasets: SharedDataSets, batch_size: int, learning_rate: float
    ) -> tuple[engine.Step, Callable[[], list[float]], Callable[[], list[float]]]:
        """Compile one step of finetuning, and the scoring of the validation and test sets.

        :param datasets: what :func:`logistic_sgd.load_data` returns
        :return: a function of a minibatch index, which updates the parameters and returns the
            cost, and two functions without arguments, which return the error of every minibatch
        """
        index = T.lscalar('index')  # of a minibatch
        train_fn = engine.function(
            inputs=[index], outputs=self.finetune_cost,
            updates=sgd_updates(self.finetune_cost, self.params, learning_rate),
            givens=minibatch_givens(self.x, self.y, datasets[0], index, batch_size))
        valid_score, test_score = scoring_functions(
            self.errors, self.x, self.y, datasets, batch_size)
        return train_fn, valid_score, test_score


def build(n_ins: int, hidden_layers_sizes: Sequence[int], n_outs: int) -> StackedNetwork:
    """A network with an input of its own, for parameters that were saved."""
    return StackedNetwork(numpy.random.RandomState(), n_ins, hidden_layers_sizes, n_outs)


def pretrain(run: Run, network: StackedNetwork, train_set_x: SharedVariable,
             function: Callable[[int, Mapping], engine.Step], n_epochs: int, lr: float,
             lr_decay: float = 1.) -> None:
    """Pretrain the layers one after the other, from the bottom to the top.

    While a layer is trained those below do not change, so that what they make of all images is
    computed once, if there is room for it.

    :param train_set_x: (n_examples, n_ins)
    :param function: from the number of a layer, and the data for a variable, to a function that
        takes one step, of a minibatch index and ``lr``
    :param lr_decay: what ``lr`` is multiplied by after every epoch
    """
    print('... pre-training the model', flush=True)
    for i, layer in enumerate(network.sigmoid_layers):
        data = {network.x: train_set_x}
        n_numbers = train_set_x.type.shape[0] * layer.W.get_value(borrow=True).shape[0]
        if i > 0 and n_numbers <= LARGEST_PRECOMPUTED:
            data = {layer.input: engine.precomputed(layer.input, network.x, train_set_x)}
        training.train_epochs(
            run, f'pre-training layer {i}', function(i, data), n_epochs,
            scalars=lambda epoch: {'lr': lr * lr_decay ** epoch},
            report=lambda epoch, cost, i=i: f'Pre-training layer {i}, epoch {epoch}, cost {cost}')


def finetune(run: Run, network: StackedNetwork, data: SharedDataSets, n_epochs: int, lr: float,
             batch_size: int, patience_epochs: int) -> training.Result:
    """Train all layers together, with labels.

    :param patience_epochs: epochs before early stopping may end it
    :return: the network with its best parameters, and the scores
    """
    likeness.save(run, data)
    train_fn, valid_score, test_score = network.build_finetune_functions(data, batch_size, lr)
    print('... finetuning the model', flush=True)
    scores = training.train_with_early_stopping(
        run, train_fn, valid_score, test_score, n_epochs,
        patience=patience_epochs * train_fn.n_minibatches, name='finetuning')
    return training.result(run, network, scores)
