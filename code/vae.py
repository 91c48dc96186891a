r"""A variational auto-encoder: a code that is drawn from a distribution, and can be drawn anew.

An image :math:`v` of black and white pixels is thought to be made from a code :math:`z` with
:math:`p(z) = N(0, I)` and :math:`p(v|z) = \prod_i \sigma(a_i)^{v_i} (1 - \sigma(a_i))^{1 - v_i}`,
where the decoder, a perceptron, gives :math:`a` from :math:`z`. A second perceptron, the encoder,
gives mean and variance of :math:`q(z|v) = N(\mu, \sigma^2)`, near what :math:`p(z|v)` is. What is
trained is a lower bound of the log-likelihood,

.. math::
    \log p(v) \ge E_q[\log p(v|z)] - KL(q(z|v) \| p(z)),

whose gradient passes through the draws, since :math:`z = \mu + \sigma \epsilon`.

References:
    - D. P. Kingma, M. Welling, "Auto-encoding variational Bayes", 2014
    - Y. Burda, R. Grosse, R. Salakhutdinov, "Importance weighted autoencoders", 2016
"""

from typing import Any

from support import checkpoints, command_line, draws, engine, training
from support.checkpoints import Run, resumable
from support.errors import check
from support.optimisers import adam_updates
from support.tiles import save_picture, tile_raster_images

import numpy
import pytensor as theano
import pytensor.tensor as T
from pytensor.compile.sharedvalue import SharedVariable

from logistic_sgd import load_data
from mlp import initial_bound

Layer = tuple[SharedVariable, SharedVariable]  # W, (n_in, n_out), and b, (n_out,)


def new_layers(rng: numpy.random.RandomState, *sizes: int) -> list[Layer]:
    """Layers from each of these sizes to the next, as those of an MLP are before training."""
    layers = []
    for n_in, n_out in zip(sizes, sizes[1:], strict=False):
        bound = initial_bound(T.tanh, n_in, n_out)
        W = rng.uniform(-bound, bound, size=(n_in, n_out)).astype(theano.config.floatX)
        layers.append((theano.shared(W, name='W'),
                       theano.shared(numpy.zeros(n_out, theano.config.floatX), name='b')))
    return layers


def through(layers: list[Layer], x: T.TensorVariable) -> T.TensorVariable:
    """What the last layer, a linear one, makes of an input, after tanh in those below."""
    for W, b in layers[:-1]:
        x = T.tanh(T.dot(x, W) + b)
    W, b = layers[-1]
    return T.dot(x, W) + b


class VAE:
    """Variational auto-encoder.

    :param numpy_rng: where the initial weights, and the seed of ``theano_rng``, are drawn from
    :param theano_rng: source of codes and of black and white pixels; None for a new one
    :param input: symbolic minibatch of images in [0, 1], (batch_size, n_visible)
    :param n_visible: number of pixels
    :param hidden_layers_sizes: hidden units of the encoder, from the lowest layer up; those of the
        decoder are as many
    :param n_latent: numbers in a code
    """

    def __init__(self, numpy_rng: numpy.random.RandomState,
                 theano_rng: draws.RandomStreams | None = None,
                 input: T.TensorVariable | None = None, n_visible: int = 784,
                 hidden_layers_sizes: tuple[int, ...] = (200, 200), n_latent: int = 50):
        self.theano_rng = theano_rng or draws.RandomStreams(numpy_rng.randint(2 ** 30))
        self.x = T.matrix('x') if input is None else input
        self.n_latent = n_latent
        self.encoder = new_layers(numpy_rng, n_visible, *hidden_layers_sizes, 2 * n_latent)
        self.decoder = new_layers(numpy_rng, n_latent, *hidden_layers_sizes[::-1], n_visible)
        self.params = [param for layer in self.encoder + self.decoder for param in layer]

    def get_images(self) -> T.TensorVariable:
        """Images in black and white: a pixel is 1 with its grey level as the probability."""
        return self.theano_rng.bernoulli(self.x.shape, self.x)

    def encode(self, v: T.TensorVariable) -> tuple[T.TensorVariable, T.TensorVariable]:
        """Mean and logarithm of the variance of q(z|v), each (batch_size, n_latent)."""
        both = through(self.encoder, v)
        return both[:, :self.n_latent], both[:, self.n_latent:]

    def decode(self, z: T.TensorVariable) -> T.TensorVariable:
        """Activations of the pixels, (..., n_visible), from codes, (..., n_latent)."""
        return through(self.decoder, z)

    def reconstruct(self, v: T.TensorVariable) -> T.TensorVariable:
        """Grey levels that the mean code of each image means, (batch_size, n_visible)."""
        mean, _ = self.encode(v)
        return T.sigmoid(self.decode(mean))

    def sample(self, rng: numpy.random.RandomState, n: int) -> numpy.ndarray:
        """Grey levels that codes drawn from N(0, I) mean, floatX (n, n_visible)."""
        z = T.matrix('z')
        codes = rng.normal(size=(n, self.n_latent)).astype(theano.config.floatX)
        return numpy.asarray(theano.function([z], T.sigmoid(self.decode(z)))(codes))

    def get_log_p_v_given_z(self, v: T.TensorVariable, z: T.TensorVariable) -> T.TensorVariable:
        """log p(v|z) in nats, (..., batch_size), for codes of (..., batch_size, n_latent)."""
        # log sigmoid(a) is a - softplus(a), which stays finite where sigmoid(a) is rounded to 0.
        a = self.decode(z)
        return T.sum(v * a - T.softplus(a), axis=-1)

    def get_lower_bound(self, v: T.TensorVariable) -> T.TensorVariable:
        """The bound in nats of each image, by one draw of its code, (batch_size,).

        The divergence from N(0, I) is not drawn: Kingma and Welling (2014), appendix B.
        """
        mean, log_variance = self.encode(v)
        noise = self.theano_rng.normal((v.shape[0], self.n_latent))
        divergence = .5 * T.sum(mean ** 2 + T.exp(log_variance) - log_variance - 1, axis=1)
        return self.get_log_p_v_given_z(v, mean + T.exp(log_variance / 2) * noise) - divergence

    def get_importance_weighted_bound(self, v: T.TensorVariable, n_codes: int) -> T.TensorVariable:
        """log of the mean of p(v, z) / q(z|v) over so many draws of z, in nats, (batch_size,).

        It is nearer to log p(v) the more there are, and in the mean never above it. (Burda et al.,
        2016, equation 8.)
        """
        mean, log_variance = self.encode(v)
        noise = self.theano_rng.normal((n_codes, v.shape[0], self.n_latent))
        z = mean + T.exp(log_variance / 2) * noise
        # The constants of both normal densities are the same.
        log_p_z = -T.sum(z ** 2, axis=2) / 2
        log_q_z = -T.sum(noise ** 2 + log_variance, axis=2) / 2
        return T.logsumexp(self.get_log_p_v_given_z(v, z) + log_p_z - log_q_z,
                           axis=0) - numpy.log(n_codes).astype(theano.config.floatX)

    def get_cost_updates(self, learning_rate: T.TensorVariable | float
                         ) -> tuple[T.TensorVariable, engine.Updates]:
        """The mean of the negative bound in the minibatch, and the updates of a step of Adam."""
        cost = -T.mean(self.get_lower_bound(self.get_images()))
        return cost, (adam_updates(self.params, T.grad(cost, self.params), learning_rate)
                      + draws.random_updates(cost))


def build(n_visible: int, hidden_layers_sizes: tuple[int, ...], n_latent: int) -> VAE:
    """A model with an input of its own, for parameters that were saved."""
    return VAE(numpy.random.RandomState(), None, None, n_visible, hidden_layers_sizes, n_latent)


@resumable
def train(learning_rate: float = 0.001, training_epochs: int = 100, dataset: str | None = None,
          batch_size: int = 100, output_folder: str = 'vae_output',
          hidden_layers_sizes: tuple[int, ...] = (200, 200), n_latent: int = 50,
          n_codes: int = 200, seed: int | None = None, resume: bool = False,
          overwrite: bool = False) -> training.Result:
    """Train a variational auto-encoder, let it draw, and estimate its log-likelihood.

    For example::

        python code/vae.py --training-epochs 10 --output-folder short_output
        python code/vae.py --n-latent 2 --output-folder flat_output

    :param learning_rate: of Adam
    :param training_epochs: passes through the training set
    :param dataset: MNIST when left out; a file or a folder of images, or digits
    :param batch_size: examples in a minibatch
    :param output_folder: for the picture, checkpoints and the history
    :param hidden_layers_sizes: hidden units of the encoder, from the lowest layer up; those of the
        decoder are as many
    :param n_latent: numbers in a code
    :param n_codes: codes drawn for each test image, for the estimate of its log-likelihood
    :param seed: of the initial weights and all draws; 123 when left out
    :param resume: go on with the run in the output folder
    :param overwrite: replace the run in the output folder
    """
    seed = 123 if seed is None else seed
    settings = dict(locals())
    check(0, learning_rate=learning_rate, training_epochs=training_epochs, seed=seed)
    check(1, hidden_layers_sizes=hidden_layers_sizes, n_latent=n_latent, n_codes=n_codes)
    data = load_data(dataset)

    print('... building the model', flush=True)
    index = T.lscalar('index')  # of a minibatch
    sizes: dict[str, Any] = {'n_visible': data.n_in, 'n_latent': n_latent,
                             'hidden_layers_sizes': list(hidden_layers_sizes)}
    rng = numpy.random.RandomState(seed)
    vae = VAE(rng, **sizes)
    (train_x, _), (valid_x, _), (test_x, _) = data

    def step(output, updates, images):
        return engine.function([index], output, updates,
                               givens={vae.x: engine.minibatch(images, index, batch_size)})

    def mean_of(values, images):
        mean = T.mean(values)
        function = step(mean, draws.random_updates(mean), images)
        states = function.generator_states()

        def evaluate():
            # With the same draws each time, so that it is the models that differ.
            function.set_generator_states(states)
            return float(function.over(range(function.n_minibatches)).mean(dtype='float64'))
        return evaluate

    train_vae = step(*vae.get_cost_updates(learning_rate), train_x)
    v = vae.get_images()
    validate = mean_of(-vae.get_lower_bound(v), valid_x)
    test = mean_of(vae.get_lower_bound(v), test_x)
    estimate = mean_of(vae.get_importance_weighted_bound(v, n_codes), test_x)

    with Run('vae', settings, data, vae.params, sizes, ['training_epochs']) as run:
        print('... training the model', flush=True)
        training.train_epochs(
            run, 'training', train_vae, training_epochs, validate=validate,
            report=lambda epoch, cost: f'Training epoch {epoch}, lower bound {-cost}')
        scores = {}
        if run.model:
            checkpoints.restore(checkpoints.named(vae.params), run.model, run.folder)
            scores = {'test_bound': test(), 'test_log_likelihood': estimate()}
            print('of the test set: lower bound {test_bound:.2f} nats, log-likelihood about '
                  '{test_log_likelihood:.2f}'.format(**scores))
        save_picture(run.file('samples.png'), tile_raster_images(
            vae.sample(rng, 100), data.image_shape, (10, 10), (1, 1),
            scale_rows_to_unit_interval=False))
        run.finish(scores)
        return training.result(run, vae, scores)


if __name__ == '__main__':
    command_line.main(train)
