r"""Contractive auto-encoder: a code that hardly changes when the input changes a little.

To the reconstruction cost of an auto-encoder is added the squared Frobenius norm of the Jacobian
of the code, :math:`\lambda \, \| \partial h / \partial x \|_F^2`: the code contracts the
neighbourhood of every training example, and only those directions survive along which the data
themselves vary. For sigmoid units :math:`h = \sigma(x W + b)` there is a closed form,

.. math::
    \frac{\partial h_j}{\partial x_i} = h_j (1 - h_j) W_{ij}, \qquad
    \Big\| \frac{\partial h}{\partial x} \Big\|_F^2
        = \sum_j \big(h_j (1 - h_j)\big)^2 \sum_i W_{ij}^2,

which costs no more than the code itself.

Reference:
    - S. Rifai, P. Vincent, X. Muller, X. Glorot, Y. Bengio, "Contractive auto-encoders: explicit
      invariance during feature extraction", 2011
"""

from typing import Any

from support import command_line, engine, training
from support.checkpoints import Run, resumable
from support.errors import check
from support.optimisers import sgd_updates
from support.tiles import save_filters

import numpy
import pytensor.tensor as T
from pytensor.compile.sharedvalue import SharedVariable

from dA import AutoEncoder, build  # noqa: F401  (a model that was saved is built alike)
from logistic_sgd import load_data


class cA(AutoEncoder):
    """Contractive auto-encoder with tied weights and sigmoid units.

    :param n_batchsize: of no effect, kept for the signature: every batch size will do

    For the other parameters see :class:`dA.AutoEncoder`.
    """

    def __init__(self, numpy_rng: numpy.random.RandomState,
                 input: T.TensorVariable | None = None, n_visible: int = 784,
                 n_hidden: int = 100, n_batchsize: int = 1, W: SharedVariable | None = None,
                 bhid: SharedVariable | None = None, bvis: SharedVariable | None = None):
        super().__init__(numpy_rng, input, n_visible, n_hidden, W, bhid, bvis)
        self.n_batchsize = n_batchsize

    def get_jacobian(self, hidden: T.TensorVariable, W: T.TensorVariable) -> T.TensorVariable:
        """The Jacobian dh_j / dx_i of the code, for every example.

        :param hidden: the code, (batch_size, n_hidden)
        :param W: weights, (n_visible, n_hidden)
        :return: (batch_size, n_visible, n_hidden)
        """
        return (hidden * (1 - hidden))[:, None, :] * W[None, :, :]

    def get_contraction(self, hidden: T.TensorVariable) -> T.TensorVariable:
        """Squared Frobenius norm of the Jacobian of the code, averaged over the minibatch.

        The same as the mean of the sum of squares of :meth:`get_jacobian`, without that array.

        :param hidden: the code, (batch_size, n_hidden)
        :return: scalar
        """
        slope = hidden * (1 - hidden)  # (batch_size, n_hidden)
        return T.mean(T.dot(slope ** 2, T.sum(self.W ** 2, axis=0)))

    def get_cost_updates(self, contraction_level: T.TensorVariable | float,
                         learning_rate: T.TensorVariable | float
                         ) -> tuple[tuple[T.TensorVariable, ...], engine.Updates]:
        """Reconstruction cost and contraction of the minibatch, and a step down their sum.

        :param contraction_level: weight of the contraction in the cost
        :return: the two means over the minibatch, and the updates of one step
        """
        hidden = self.get_hidden_values(self.x)
        reconstruction = self.get_cost(self.x)
        contraction = self.get_contraction(hidden)
        cost = reconstruction + contraction_level * contraction
        return ((reconstruction, contraction),
                sgd_updates(cost, self.params, learning_rate))


@resumable
def train(learning_rate: float = 0.01, training_epochs: int = 20, dataset: str | None = None,
          batch_size: int = 10, output_folder: str = 'cA_plots', contraction_level: float = .1,
          n_hidden: int = 500, seed: int | None = None, resume: bool = False,
          overwrite: bool = False) -> training.Result:
    """Train a contractive auto-encoder, and draw its filters.

    For example::

        python code/cA.py --training-epochs 5 --output-folder short_output
        python code/cA.py --contraction-level 0.5 --output-folder strong_output

    :param learning_rate: length of a step down the gradient
    :param training_epochs: passes through the training set
    :param dataset: MNIST when left out; a file or a folder of images, or digits
    :param batch_size: examples in a minibatch
    :param output_folder: for the picture, checkpoints and the history
    :param contraction_level: weight of the contraction in the cost
    :param n_hidden: number of hidden units
    :param seed: of the initial weights; 123 when left out
    :param resume: go on with the run in the output folder
    :param overwrite: replace the run in the output folder
    """
    seed = 123 if seed is None else seed
    settings = dict(locals())
    check(0, learning_rate=learning_rate, training_epochs=training_epochs,
          contraction_level=contraction_level, seed=seed)
    check(1, n_hidden=n_hidden)
    data = load_data(dataset)
    train_set_x, _ = data[0]

    print('... building the model', flush=True)
    index = T.lscalar('index')  # of a minibatch
    x = T.matrix('x')  # images, one flattened image a row
    sizes: dict[str, Any] = {'n_visible': data.n_in, 'n_hidden': n_hidden}
    ca = cA(numpy.random.RandomState(seed), input=x, n_batchsize=batch_size, **sizes)
    (reconstruction, contraction), updates = ca.get_cost_updates(contraction_level, learning_rate)
    jacobian_norm = T.sqrt(contraction)  # root mean square over the minibatch
    train_ca = engine.function(
        inputs=[index], outputs=[reconstruction, jacobian_norm], updates=updates,
        givens={x: engine.minibatch(train_set_x, index, batch_size)})

    with Run('cA', settings, data, ca.params, sizes, ['training_epochs']) as run:
        print('... training the model', flush=True)
        history = training.train_epochs(
            run, 'training', train_ca, training_epochs, columns=('cost', 'jacobian_norm'),
            report=lambda epoch, cost, norm: f'Training epoch {epoch}, reconstruction cost {cost} '
                                             f'jacobian norm {norm}')
        save_filters(run.file('cae_filters.png'), numpy.asarray(ca.W.get_value()),
                     data.image_shape)
        run.keep_model()
        scores = {name: history[-1][name] for name in ('cost', 'jacobian_norm') if history}
        run.finish(scores)
        return training.result(run, ca, scores)


test_cA = train  # its name in the old tutorials


if __name__ == '__main__':
    command_line.main(train)
