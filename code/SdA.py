r"""Stacked denoising auto-encoders: a deep network that learns layer by layer.

The network has two facades on the same weights. As a list of denoising auto-encoders, each one is
trained, without labels, to denoise what the layer below makes of the images. As a multilayer
perceptron, all layers are then finetuned together, with labels. The first phase puts the weights
where the second, started from random ones, would not easily come.

References:
    - P. Vincent, H. Larochelle, I. Lajoie, Y. Bengio, P.-A. Manzagol, "Stacked denoising
      autoencoders: learning useful representations in a deep network with a local denoising
      criterion", 2010
    - Y. Bengio, P. Lamblin, D. Popovici, H. Larochelle, "Greedy layer-wise training of deep
      networks", 2007
"""

from collections.abc import Mapping, Sequence
from typing import Any

from support import command_line, draws, engine, training
from support.checkpoints import Run, resumable
from support.errors import UserError, check

import numpy
import pytensor.tensor as T
from pytensor.compile.sharedvalue import SharedVariable

import stacked
from dA import dA
from logistic_sgd import load_data


class SdA(stacked.StackedNetwork):
    """Stack of denoising auto-encoders that is at the same time a multilayer perceptron.

    :param numpy_rng: where the initial weights, and the seed of ``theano_rng``, are drawn from
    :param theano_rng: source of the corruption; None for a new one
    :param n_ins: number of input units
    :param hidden_layers_sizes: number of units of each hidden layer
    :param n_outs: number of classes
    :param corruption_levels: for each layer, the fraction of its inputs to put out in pretraining
    :raises UserError: when there is not one corruption level for each layer
    """

    def __init__(self, numpy_rng: numpy.random.RandomState,
                 theano_rng: draws.RandomStreams | None = None, n_ins: int = 784,
                 hidden_layers_sizes: Sequence[int] = (500, 500), n_outs: int = 10,
                 corruption_levels: Sequence[float] = (0.1, 0.1)):
        if len(corruption_levels) != len(hidden_layers_sizes):
            raise UserError(f'`corruption_levels` are {len(corruption_levels)}: give one for each '
                            f'of {len(hidden_layers_sizes)} hidden layers')
        if theano_rng is None:
            theano_rng = draws.RandomStreams(numpy_rng.randint(2 ** 30))
        super().__init__(numpy_rng, n_ins, hidden_layers_sizes, n_outs)
        self.corruption_levels = list(corruption_levels)

        # Each auto-encoder uses the weights and hidden biases of a layer of the perceptron: what
        # pretraining changes in one, it changes in the other.
        self.dA_layers = []
        n_in = n_ins
        for layer, n_out in zip(self.sigmoid_layers, hidden_layers_sizes, strict=True):
            self.dA_layers.append(dA(numpy_rng, theano_rng, input=layer.input, n_visible=n_in,
                                     n_hidden=n_out, W=layer.W, bhid=layer.b))
            n_in = n_out

    def pretraining_function(self, i: int, data: Mapping[T.TensorVariable, SharedVariable],
                             batch_size: int) -> engine.Step:
        """A function that takes one step of training the auto-encoder of layer ``i``.

        It is called as ``f(index, corruption=..., lr=0.1)`` and returns the cost of the minibatch;
        corruption is by default what the constructor was given for the layer.

        :param data: for ``x``, or for the input of the layer, all examples
        """
        index = T.lscalar('index')  # of a minibatch
        corruption_level = T.scalar('corruption')
        learning_rate = T.scalar('lr')
        cost, updates = self.dA_layers[i].get_cost_updates(corruption_level, learning_rate)
        return engine.function(
            inputs=[index, corruption_level, learning_rate], outputs=cost, updates=updates,
            givens={variable: engine.minibatch(examples, index, batch_size)
                    for variable, examples in data.items()},
            defaults={corruption_level: self.corruption_levels[i], learning_rate: 0.1})

    def pretraining_functions(self, train_set_x: SharedVariable,
                              batch_size: int) -> list[engine.Step]:
        """:meth:`pretraining_function` for each layer, from images, (n_examples, n_ins)."""
        return [self.pretraining_function(i, {self.x: train_set_x}, batch_size)
                for i in range(self.n_layers)]


@resumable
def train(finetune_lr: float = 0.1, pretraining_epochs: int = 15, pretrain_lr: float = 0.001,
          training_epochs: int = 1000, dataset: str | None = None, batch_size: int = 1,
          hidden_layers_sizes: tuple[int, ...] = (1000, 1000, 1000),
          corruption_levels: tuple[float, ...] = (0.1, 0.2, 0.3), seed: int | None = None,
          output_folder: str = 'SdA_output', resume: bool = False,
          overwrite: bool = False) -> training.Result:
    """Pretrain a stack of denoising auto-encoders layer by layer, then finetune it as a whole.

    For example::

        python code/SdA.py --dataset digits --pretraining-epochs 2 --training-epochs 5
        python code/SdA.py --resume

    :param finetune_lr: length of a step down the gradient in finetuning
    :param pretraining_epochs: passes through the training set for each layer
    :param pretrain_lr: length of a step down the gradient in pretraining
    :param training_epochs: passes through the training set in finetuning, at most
    :param dataset: MNIST when left out; a file or a folder of images, or digits
    :param batch_size: examples in a minibatch
    :param hidden_layers_sizes: number of units of each hidden layer
    :param corruption_levels: for each layer, the fraction of its inputs to put out in pretraining
    :param seed: of the initial weights and the corruption; 89677 when left out
    :param output_folder: for checkpoints, the best model and the history
    :param resume: go on with the run in the output folder
    :param overwrite: replace the run in the output folder
    """
    seed = 89677 if seed is None else seed
    settings = dict(locals())
    check(0, finetune_lr=finetune_lr, pretrain_lr=pretrain_lr,
          pretraining_epochs=pretraining_epochs, training_epochs=training_epochs, seed=seed)
    data = load_data(dataset)

    print('... building the model', flush=True)
    sizes: dict[str, Any] = {'n_ins': data.n_in, 'hidden_layers_sizes': hidden_layers_sizes,
                             'n_outs': data.n_classes}
    sda = SdA(numpy.random.RandomState(seed), corruption_levels=corruption_levels, **sizes)

    with Run('SdA', settings, data, sda.params, sizes,
             ['pretraining_epochs', 'training_epochs']) as run:
        stacked.pretrain(
            run, sda, data[0][0], lambda i, inputs: sda.pretraining_function(i, inputs, batch_size),
            pretraining_epochs, pretrain_lr)
        return stacked.finetune(run, sda, data, training_epochs, finetune_lr, batch_size,
                                patience_epochs=10)


build = stacked.build
test_SdA = train  # its name in the old tutorials


if __name__ == '__main__':
    command_line.main(train)
