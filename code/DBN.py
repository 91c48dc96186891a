r"""Deep belief networks: a deep network whose layers are pretrained as Boltzmann machines.

A stack of restricted Boltzmann machines, each of which learns the distribution of what the layer
below makes of the images. Taken as a whole, the top two layers form an RBM and the ones below
generate downwards from it:

.. math::
    p(x, h^{(1)}, \dots, h^{(L)}) = \Big(\prod_{l=0}^{L-2} P(h^{(l)} \mid h^{(l+1)})\Big)
                               \, p(h^{(L-1)}, h^{(L)}), \qquad h^{(0)} = x.

A new layer that is trained on samples of the one below, and starts as good as it, raises a lower
bound on the likelihood. As with stacked auto-encoders, the same weights are then the layers of a
multilayer perceptron, which is finetuned with labels.

References:
    - G. E. Hinton, S. Osindero, Y. W. Teh, "A fast learning algorithm for deep belief nets", 2006
    - Y. Bengio, P. Lamblin, D. Popovici, H. Larochelle, "Greedy layer-wise training of deep
      networks", 2007
"""

from collections.abc import Mapping, Sequence
from typing import Any

from support import checkpoints, command_line, draws, engine, training
from support.checkpoints import Run, resumable
from support.errors import check

import numpy
import pytensor as theano
import pytensor.tensor as T
from pytensor.compile.sharedvalue import SharedVariable
from scipy.special import expit

import stacked
from logistic_sgd import load_data
from rbm import RBM

PRETRAINED = 'pretrained.npz'  # what the stack was before it was finetuned


class DBN(stacked.StackedNetwork):
    """Stack of RBMs that is at the same time a multilayer perceptron.

    :param numpy_rng: where the seed of ``theano_rng``, and then the weights, are drawn from
    :param theano_rng: source of the samples; None for a new one
    :param n_ins: number of input units
    :param hidden_layers_sizes: number of units of each hidden layer
    :param n_outs: number of classes
    :param sample_units: an RBM sees states of the units below, which are drawn whenever they are
        used, instead of their probabilities, and pixels in the same way
    :raises UserError: when there is no hidden layer
    """

    def __init__(self, numpy_rng: numpy.random.RandomState,
                 theano_rng: draws.RandomStreams | None = None, n_ins: int = 784,
                 hidden_layers_sizes: Sequence[int] = (500, 500), n_outs: int = 10,
                 sample_units: bool = False):
        if theano_rng is None:
            theano_rng = draws.RandomStreams(numpy_rng.randint(2 ** 30))
        super().__init__(numpy_rng, n_ins, hidden_layers_sizes, n_outs)

        # What an RBM learns, its layer of the perceptron has learnt. Its input is what the layers
        # below compute: the mean activations of their units, or samples.
        self.rbm_layers = []
        n_in = n_ins
        for layer, n_out in zip(self.sigmoid_layers, hidden_layers_sizes, strict=True):
            rbm_input = (theano_rng.bernoulli(layer.input.shape, layer.input) if sample_units
                         else layer.input)
            self.rbm_layers.append(RBM(input=rbm_input, n_visible=n_in, n_hidden=n_out,
                                       W=layer.W, hbias=layer.b, numpy_rng=numpy_rng,
                                       theano_rng=theano_rng))
            n_in = n_out

    @property
    def generative_params(self) -> list[T.TensorVariable]:
        """The parameters of all RBMs, from the bottom to the top."""
        return [param for layer in self.rbm_layers for param in layer.params]

    def pretraining_function(self, i: int, data: Mapping[T.TensorVariable, SharedVariable],
                             batch_size: int, k: int, persistent: bool = False) -> engine.Step:
        """A function that takes one step of CD-k, or of PCD-k, in the RBM of layer ``i``.

        It is called as ``f(index, lr=0.1)`` and returns the log-probability of the
        reconstruction, which is the negative cross-entropy, or with PCD the pseudo-likelihood.

        :param data: for ``x``, or for the input of the layer, all examples
        :param k: Gibbs steps in an update
        """
        index = T.lscalar('index')  # of a minibatch
        learning_rate = T.scalar('lr')
        machine = self.rbm_layers[i]
        chains = theano.shared(numpy.zeros((batch_size, machine.n_hidden), theano.config.floatX),
                               name='chains') if persistent else None
        cost, updates = machine.get_cost_updates(learning_rate, chains, k)
        return engine.function(
            inputs=[index, learning_rate], outputs=cost,
            updates=updates + draws.random_updates(machine.input, blockers=[*data]),
            givens={variable: engine.minibatch(examples, index, batch_size)
                    for variable, examples in data.items()},
            defaults={learning_rate: 0.1})

    def pretraining_functions(self, train_set_x: SharedVariable, batch_size: int,
                              k: int) -> list[engine.Step]:
        """:meth:`pretraining_function` for each layer, from images, (n_examples, n_ins)."""
        return [self.pretraining_function(i, {self.x: train_set_x}, batch_size, k)
                for i in range(self.n_layers)]

    def sample(self, rng: numpy.random.RandomState, n: int) -> numpy.ndarray:
        """Images of the stack before finetuning: Gibbs steps in the RBM on top, and then downwards.

        :return: P(v = 1 | h) in the lowest RBM, (n, n_ins)
        """
        *below, top = self.rbm_layers
        probability = top.sample(rng, n)
        for machine in reversed(below):
            h = rng.uniform(size=probability.shape) < probability
            W, vbias = (numpy.asarray(param.get_value()) for param in (machine.W, machine.vbias))
            probability = expit(h @ W.T + vbias)
        return probability


def load_pretrained(output_folder: str) -> DBN:
    """The network of a run of this script as pretraining left it.

    :raises UserError: when there is none
    """
    def build_dbn(n_ins, hidden_layers_sizes, n_outs):
        rng = numpy.random.RandomState()  # whatever it draws is replaced
        return DBN(rng, n_ins=n_ins, hidden_layers_sizes=hidden_layers_sizes, n_outs=n_outs)

    return checkpoints.load(output_folder, build_dbn, PRETRAINED,
                            params=lambda dbn: dbn.generative_params)


def load_rbms(output_folder: str) -> list[RBM]:
    """The RBMs of :func:`load_pretrained`, from the bottom to the top."""
    return load_pretrained(output_folder).rbm_layers


@resumable
def train(finetune_lr: float = 0.1, pretraining_epochs: int = 100, pretrain_lr: float = 0.01,
          k: int = 1, persistent: bool = False, sample_units: bool = False,
          pretrain_lr_decay: float = 1., training_epochs: int = 1000, dataset: str | None = None,
          batch_size: int = 10, hidden_layers_sizes: tuple[int, ...] = (1000, 1000, 1000),
          seed: int | None = None, output_folder: str = 'DBN_output', resume: bool = False,
          overwrite: bool = False) -> training.Result:
    """Pretrain a stack of RBMs layer by layer, then finetune it as a multilayer perceptron.

    For example::

        python code/DBN.py --dataset digits --hidden-layers-sizes 300 300
        python code/DBN.py --pretraining-epochs 10 --k 5 --output-folder CD5_output
        python code/DBN.py --hidden-layers-sizes 500 2000 --persistent --sample-units \\
            --batch-size 100 --pretraining-epochs 60 --pretrain-lr 0.05 \\
            --pretrain-lr-decay 0.94 --training-epochs 0

    :param finetune_lr: length of a step down the gradient in finetuning
    :param pretraining_epochs: passes through the training set for each layer
    :param pretrain_lr: length of a step in pretraining
    :param k: Gibbs steps in an update of pretraining
    :param persistent: let the chains of pretraining go on from update to update (PCD)
    :param sample_units: pretrain each layer on states that are drawn, pixels too, instead of on
        probabilities and grey levels
    :param pretrain_lr_decay: the rate of pretraining is multiplied by it after every epoch
    :param training_epochs: passes through the training set in finetuning, at most
    :param dataset: MNIST when left out; a file or a folder of images, or digits
    :param batch_size: examples in a minibatch
    :param hidden_layers_sizes: number of units of each hidden layer
    :param seed: of the initial weights and the samples; 123 when left out
    :param output_folder: for checkpoints, the best model and the history
    :param resume: go on with the run in the output folder
    :param overwrite: replace the run in the output folder
    """
    seed = 123 if seed is None else seed
    settings = dict(locals())
    check(0, finetune_lr=finetune_lr, pretrain_lr=pretrain_lr,
          pretraining_epochs=pretraining_epochs, training_epochs=training_epochs, seed=seed)
    check(0, 1, pretrain_lr_decay=pretrain_lr_decay)
    data = load_data(dataset)

    print('... building the model', flush=True)
    sizes: dict[str, Any] = {'n_ins': data.n_in, 'hidden_layers_sizes': hidden_layers_sizes,
                             'n_outs': data.n_classes}
    dbn = DBN(numpy.random.RandomState(seed), sample_units=sample_units, **sizes)

    with Run('DBN', settings, data, dbn.params, sizes,
             ['pretraining_epochs', 'training_epochs']) as run:
        stacked.pretrain(
            run, dbn, data[0][0],
            lambda i, inputs: dbn.pretraining_function(i, inputs, batch_size, k, persistent),
            pretraining_epochs, pretrain_lr, pretrain_lr_decay)
        if 'finetuning' not in run.stages:
            # Finetuning gives up what the stack knows of the distribution of images.
            checkpoints.save_params(run.file(PRETRAINED), dbn.generative_params)
        return stacked.finetune(run, dbn, data, training_epochs, finetune_lr, batch_size,
                                patience_epochs=4)


build = stacked.build
test_DBN = train  # its name in the old tutorials


if __name__ == '__main__':
    command_line.main(train)
