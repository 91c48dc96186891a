"""What a stack of denoising auto-encoders and a deep belief network have in common.

Both are, in the end, the same multilayer perceptron: sigmoid layers under logistic regression.
They differ in how its layers are pretrained, one after the other, before all of them are
finetuned together by gradient descent on the negative log-likelihood.
"""

from collections.abc import Callable, Sequence

import numpy
import pytensor.tensor as T

from logistic_sgd import (
    LogisticRegression,
    SharedDataSets,
    minibatch_givens,
    scoring_functions,
)
from mlp import HiddenLayer
from support import checkpoints, engine, training
from support.errors import UserError


class StackedNetwork:
    """Sigmoid layers under logistic regression.

    :param numpy_rng: where the initial weights are drawn from, one layer after the other
    :param n_ins: number of input units
    :param hidden_layers_sizes: number of units of each hidden layer, at least one layer
    :param n_outs: number of classes
    :raises UserError: when there is no hidden layer
    """

    def __init__(self, numpy_rng: numpy.random.RandomState, n_ins: int,
                 hidden_layers_sizes: Sequence[int], n_outs: int):
        self.n_layers = len(hidden_layers_sizes)
        if self.n_layers == 0:
            raise UserError('a stacked network needs at least one hidden layer')
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
    ) -> tuple[engine.MinibatchFunction, Callable[[], list[float]], Callable[[], list[float]]]:
        """Compile one step of finetuning, and the scoring of the validation and test sets.

        :param datasets: what :func:`logistic_sgd.load_data` returns
        :return: a function of a minibatch index, which updates the parameters and returns the
            cost, and two functions without arguments, which return the error of every minibatch
        """
        index = T.lscalar('index')  # of a minibatch
        train_fn = engine.function(
            inputs=[index], outputs=self.finetune_cost,
            updates=training.sgd_updates(self.finetune_cost, self.params, learning_rate),
            givens=minibatch_givens(self.x, self.y, datasets[0], index, batch_size))
        valid_score, test_score = scoring_functions(
            self.errors, self.x, self.y, datasets, batch_size)
        return train_fn, valid_score, test_score


def train(run: checkpoints.Run, network: StackedNetwork, data: SharedDataSets,
          pretraining_fns: Sequence[engine.MinibatchFunction], pretraining_epochs: int,
          pretrain_lr: float, finetune_lr: float, training_epochs: int, batch_size: int,
          patience_epochs: int, pretrained: Callable[[], None] = lambda: None) -> training.Result:
    """Pretrain the layers one after the other, from the bottom to the top, then finetune them all.

    :param run: of which this is all the training
    :param network: the stack, whose parameters the functions change
    :param data: training, validation and test set, for the finetuning
    :param pretraining_fns: for each layer, a function of a minibatch index and ``lr``
    :param pretraining_epochs: epochs for each layer
    :param pretrain_lr: learning rate in these
    :param finetune_lr: learning rate of the finetuning
    :param training_epochs: epochs of finetuning at most
    :param batch_size: examples in a minibatch of the finetuning
    :param patience_epochs: epochs of finetuning before early stopping may end it
    :param pretrained: called between the two
    :return: the network with its best parameters, and the scores
    """
    train_fn, valid_score, test_score = network.build_finetune_functions(
        data, batch_size, finetune_lr)

    print('... pre-training the model', flush=True)
    for i, pretrain in enumerate(pretraining_fns):
        training.train_epochs(
            run, f'pre-training layer {i}', pretrain, pretraining_epochs,
            scalars=lambda epoch: {'lr': pretrain_lr},
            report=lambda epoch, cost, i=i: f'Pre-training layer {i}, epoch {epoch}, cost {cost}')
    if 'finetuning' not in run.state['stages']:  # nor when the run was resumed after its begin
        pretrained()

    print('... finetuning the model', flush=True)
    scores = training.train_with_early_stopping(
        run, train_fn, valid_score, test_score, training_epochs,
        patience=patience_epochs * train_fn.n_minibatches, name='finetuning')
    return training.result(run, network, scores)


def load_classifier(output_folder: str) -> StackedNetwork:
    """The classifier that a run of ``SdA.py`` or ``DBN.py`` left in its output folder.

    :raises UserError: when there is none, or it is not such a network
    """
    shapes = checkpoints.model_shapes(output_folder, n_layers=None)
    (n_ins, _), *_ = shapes
    *hidden_layers_sizes, n_outs = [shape[-1] for shape in shapes[::2]]
    rng = numpy.random.RandomState()  # whatever it draws is replaced
    classifier = StackedNetwork(rng, n_ins, hidden_layers_sizes, n_outs)
    checkpoints.load_model(output_folder, classifier.params)
    return classifier
