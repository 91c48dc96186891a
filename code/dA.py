r"""Auto-encoders and denoising auto-encoders: features without labels.

An auto-encoder maps its input to a hidden code and back,

.. math::
    y = \sigma(x W + b), \qquad z = \sigma(y W^T + b'),

with the same (tied) weights both ways, and is trained to make :math:`z` like :math:`x` by the
cross-entropy :math:`L(x, z) = -\sum_k x_k \log z_k + (1 - x_k) \log(1 - z_k)`. A denoising
auto-encoder sees a corrupted :math:`\tilde x`, some of its pixels put out at random, and has to
restore the clean :math:`x`. To do that it must learn how pixels depend on each other, and its
features become detectors of strokes instead of copies of the input.

References:
    - P. Vincent, H. Larochelle, Y. Bengio, P.-A. Manzagol, "Extracting and composing robust
      features with denoising autoencoders", 2008
    - Y. Bengio, P. Lamblin, D. Popovici, H. Larochelle, "Greedy layer-wise training of deep
      networks", 2007
"""

from typing import Any

from support import command_line, draws, engine, training
from support.checkpoints import Run, resumable
from support.errors import check
from support.optimisers import sgd_updates
from support.tiles import save_filters

import numpy
import pytensor as theano
import pytensor.tensor as T
from pytensor.compile.sharedvalue import SharedVariable

from logistic_sgd import load_data


class AutoEncoder:
    """Auto-encoder with tied weights and sigmoid units.

    :param numpy_rng: where the initial weights are drawn from
    :param input: symbolic minibatch in [0, 1], (batch_size, n_visible); None for a new variable
    :param n_visible: number of visible units
    :param n_hidden: number of hidden units
    :param W: shared weights, (n_visible, n_hidden), to use instead of new ones
    :param bhid: shared biases of the hidden units, (n_hidden,), to use instead of new ones
    :param bvis: shared biases of the visible units, (n_visible,), to use instead of new ones
    """

    def __init__(self, numpy_rng: numpy.random.RandomState,
                 input: T.TensorVariable | None = None, n_visible: int = 784,
                 n_hidden: int = 500, W: SharedVariable | None = None,
                 bhid: SharedVariable | None = None, bvis: SharedVariable | None = None):
        if W is None:
            bound = 4 * numpy.sqrt(6. / (n_visible + n_hidden))  # as for a sigmoid layer of an MLP
            W_values = numpy_rng.uniform(low=-bound, high=bound, size=(n_visible, n_hidden))
            W = theano.shared(W_values.astype(theano.config.floatX), name='W')
        if bhid is None:
            bhid = theano.shared(numpy.zeros(n_hidden, dtype=theano.config.floatX), name='b')
        if bvis is None:
            bvis = theano.shared(numpy.zeros(n_visible, dtype=theano.config.floatX),
                                 name='b_prime')
        self.n_visible = n_visible
        self.n_hidden = n_hidden
        self.W = W
        self.b = bhid
        self.b_prime = bvis
        self.W_prime = self.W.T  # tied
        self.x = T.matrix('input') if input is None else input
        self.params = [self.W, self.b, self.b_prime]

    def get_hidden_values(self, input: T.TensorVariable) -> T.TensorVariable:
        """The code, h = sigmoid(x W + b).

        :param input: (batch_size, n_visible)
        :return: (batch_size, n_hidden)
        """
        return T.sigmoid(T.dot(input, self.W) + self.b)

    def get_reconstruction_activation(self, hidden: T.TensorVariable) -> T.TensorVariable:
        """What goes into the sigmoid of the reconstruction, h W' + b'.

        :param hidden: (batch_size, n_hidden)
        :return: (batch_size, n_visible)
        """
        return T.dot(hidden, self.W_prime) + self.b_prime

    def get_reconstructed_input(self, hidden: T.TensorVariable) -> T.TensorVariable:
        """The reconstruction, z = sigmoid(h W' + b').

        :param hidden: (batch_size, n_hidden)
        :return: (batch_size, n_visible)
        """
        return T.sigmoid(self.get_reconstruction_activation(hidden))

    def reconstruct(self, x: T.TensorVariable) -> T.TensorVariable:
        """What comes back of images, (batch_size, n_visible) as they are."""
        return self.get_reconstructed_input(self.get_hidden_values(x))

    def get_cost(self, seen: T.TensorVariable) -> T.TensorVariable:
        """Cross-entropy in nats between the input and its reconstruction from what was seen.

        Summed over the visible units, averaged over the minibatch.

        :param seen: what the encoder is given, (batch_size, n_visible)
        :return: scalar
        """
        # With z = sigmoid(a), -x log z - (1 - x) log(1 - z) is softplus(a) - x a, which stays
        # finite where z itself is rounded to 0 or 1.
        a = self.get_reconstruction_activation(self.get_hidden_values(seen))
        return T.mean(T.sum(T.softplus(a) - self.x * a, axis=1))

    def get_cost_updates(self, learning_rate: T.TensorVariable | float
                         ) -> tuple[T.TensorVariable, engine.Updates]:
        """Cost of the minibatch and the updates of one step of gradient descent on it."""
        cost = self.get_cost(self.x)
        return cost, sgd_updates(cost, self.params, learning_rate)


class dA(AutoEncoder):
    """Denoising auto-encoder: an auto-encoder that sees a corrupted input.

    :param numpy_rng: where the initial weights, and the seed of ``theano_rng``, are drawn from
    :param theano_rng: source of the corruption; None for a new one

    For the other parameters see :class:`AutoEncoder`.
    """

    def __init__(self, numpy_rng: numpy.random.RandomState,
                 theano_rng: draws.RandomStreams | None = None,
                 input: T.TensorVariable | None = None, n_visible: int = 784,
                 n_hidden: int = 500, W: SharedVariable | None = None,
                 bhid: SharedVariable | None = None, bvis: SharedVariable | None = None):
        if theano_rng is None:
            theano_rng = draws.RandomStreams(numpy_rng.randint(2 ** 30))
        self.theano_rng = theano_rng
        super().__init__(numpy_rng, input, n_visible, n_hidden, W, bhid, bvis)

    def get_corrupted_input(self, input: T.TensorVariable,
                            corruption_level: T.TensorVariable | float) -> T.TensorVariable:
        """The input, each entry set to 0 with probability ``corruption_level``.

        :param input: (batch_size, n_visible)
        :return: (batch_size, n_visible)
        """
        return self.theano_rng.bernoulli(size=input.shape, p=1 - corruption_level) * input

    def get_cost_updates(self, corruption_level: T.TensorVariable | float,
                         learning_rate: T.TensorVariable | float
                         ) -> tuple[T.TensorVariable, engine.Updates]:
        """Cost of the minibatch and the updates of one step of gradient descent on it.

        The updates include those of the random generator, so that every step draws new noise.

        :param corruption_level: fraction of the visible units that are put out, in [0, 1)
        """
        cost = self.get_cost(self.get_corrupted_input(self.x, corruption_level))
        return cost, (sgd_updates(cost, self.params, learning_rate)
                      + draws.random_updates(cost))


def cost_of_mean_image(images: numpy.ndarray) -> float:
    """Cross-entropy in nats when every image is reconstructed as the mean of all: what to beat.

    :param images: (n_examples, n_visible) in [0, 1]
    """
    mean = images.mean(axis=0, dtype='float64')
    inside = mean[(mean > 0) & (mean < 1)]  # where all images agree, nothing is to be paid
    return float(-numpy.sum(inside * numpy.log(inside) + (1 - inside) * numpy.log1p(-inside)))


def build(n_visible: int, n_hidden: int) -> AutoEncoder:
    """An auto-encoder with an input of its own, for parameters that were saved."""
    return AutoEncoder(numpy.random.RandomState(), None, n_visible, n_hidden)


@resumable
def train(learning_rate: float = 0.1, training_epochs: int = 15, dataset: str | None = None,
          batch_size: int = 20, output_folder: str = 'dA_plots', n_hidden: int = 500,
          seed: int | None = None, resume: bool = False,
          overwrite: bool = False) -> training.Result:
    """Train one auto-encoder without and one with corruption, and draw the filters of both.

    For example::

        python code/dA.py --training-epochs 5 --output-folder short_output
        python code/dA.py --dataset digits --batch-size 10

    :param learning_rate: length of a step down the gradient
    :param training_epochs: passes through the training set
    :param dataset: MNIST when left out; a file or a folder of images, or digits
    :param batch_size: examples in a minibatch
    :param output_folder: for the pictures, checkpoints and the history
    :param n_hidden: number of hidden units
    :param seed: of the initial weights and the corruption; 123 when left out
    :param resume: go on with the run in the output folder
    :param overwrite: replace the run in the output folder
    """
    seed = 123 if seed is None else seed
    settings = dict(locals())
    check(0, learning_rate=learning_rate, training_epochs=training_epochs, seed=seed)
    check(1, n_hidden=n_hidden)
    data = load_data(dataset)
    train_set_x, _ = data[0]

    print('... building the model', flush=True)
    index = T.lscalar('index')  # of a minibatch
    x = T.matrix('x')  # images, one flattened image a row
    sizes: dict[str, Any] = {'n_visible': data.n_in, 'n_hidden': n_hidden}
    models, functions = {}, {}
    for percent in (0, 30):
        # The same generator anew: both models start from the same weights.
        da = dA(numpy_rng=numpy.random.RandomState(seed), input=x, **sizes)
        cost, updates = da.get_cost_updates(percent / 100, learning_rate)
        models[percent] = da
        functions[percent] = engine.function(
            inputs=[index], outputs=cost, updates=updates,
            givens={x: engine.minibatch(train_set_x, index, batch_size)})

    print('... training; reconstructing each image by the mean image would cost '
          f'{cost_of_mean_image(numpy.asarray(train_set_x.get_value(borrow=True))):.1f} nats')
    costs = {}
    with Run('dA', settings, data, models[30].params, sizes, ['training_epochs']) as run:
        for percent, train_da in functions.items():
            print(f'... corruption {percent} %', flush=True)
            history = training.train_epochs(
                run, f'corruption {percent} %', train_da, training_epochs, stands_alone=True,
                report=lambda epoch, cost: f'Training epoch {epoch}, cost {cost}')
            save_filters(run.file(f'filters_corruption_{percent}.png'),
                         numpy.asarray(models[percent].W.get_value()), data.image_shape)
            if history:
                costs[f'cost_corruption_{percent}'] = history[-1]['cost']
        run.keep_model()
        run.finish(costs)
        return training.result(run, models[30], costs)


test_dA = train  # its name in the old tutorials


if __name__ == '__main__':
    command_line.main(train)
