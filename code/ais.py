r"""Annealed importance sampling: the likelihood of an RBM, which its training never computes.

The probability of an image, :math:`p(v) = e^{-F(v)} / Z`, needs the partition function Z, a sum
over all images. AIS goes from a model A whose Z is known, an RBM without weights, to the model B
in many small steps, through the distributions

.. math::
    p_\beta(v) \propto f_\beta(v) = e^{((1 - \beta) b_v^A + \beta b_v^B) \cdot v}
        \prod_j (1 + e^{(1 - \beta) b_{h,j}^A + \beta (b_{h,j}^B + v W_{\cdot j})}),
    \qquad 0 = \beta_0 < \dots < \beta_M = 1.

Here the visible biases of A fit the training images, and its hidden biases are 0.

Chains start with samples of A, take a Gibbs step at each temperature, and are weighted by

.. math::
    w = \prod_k \frac{f_{\beta_{k+1}}(v_k)}{f_{\beta_k}(v_k)}, \qquad
    \mathrm{E}[w] = \frac{Z_B}{Z_A}.

The mean weight is right on average, but a sample of chains that misses a mode of the model makes
Z too small, and the likelihood too large. Reverse AIS errs on the other side: it runs the same
chains backwards from each test image, which gives an unbiased estimate of the probability that
the forward chains end there, and so, in the logarithm, a likelihood that is too small, of the
model as annealing reaches it.

References:
    - R. M. Neal, "Annealed importance sampling", 2001
    - R. Salakhutdinov, I. Murray, "On the quantitative analysis of deep belief networks", 2008
    - Y. Burda, R. Grosse, R. Salakhutdinov, "Accurate and conservative estimates of MRF
      log-likelihood using reverse annealing", 2015
"""

from typing import Any

from support import draws, engine, training
from support.errors import UserError
from support.estimates import Estimate, log_mean_estimate, mean_estimate
from support.progress import Progress

import numpy
import pytensor as theano
import pytensor.tensor as T
from pytensor.compile.sharedvalue import SharedVariable
from scipy.special import expit, logsumexp

from rbm import RBM

ENUMERABLE = 20  # units in the smaller layer, up to which Z is summed exactly
TEMPERATURES_PER_CALL = 100  # between two movements of the progress bar


def inverse_temperatures(n_temperatures: int) -> numpy.ndarray:
    """From 0 to 1, closer together towards 1, where a step changes more.

    The proportions are those of Salakhutdinov and Murray (2008), section 4.1: 500 up to 0.5, 4,000
    up to 0.9 and 10,000 up to 1.

    :return: float64 (n_temperatures + 1,), rising
    """
    position = numpy.arange(n_temperatures + 1) * 14500 / n_temperatures
    return numpy.interp(position, [0, 500, 4500, 14500], [0, .5, .9, 1])


def log_partition_of_base(vbias: numpy.ndarray, hbias: numpy.ndarray) -> numpy.ndarray:
    """log Z of the model A, all of whose units are independent.

    :param vbias: (n_visible,) or, for one model in each row, (n_models, n_visible)
    :param hbias: (n_hidden,) or (n_models, n_hidden)
    :return: float64 scalar or (n_models,)
    """
    return sum(numpy.logaddexp(0, bias, dtype='float64').sum(axis=-1) for bias in (vbias, hbias))


def between(beta: T.TensorVariable, base: T.TensorVariable,
            model: T.TensorVariable) -> T.TensorVariable:
    """What goes into a unit at inverse temperature beta, by what it is in A and in B."""
    return (1 - beta) * base + beta * model


class Annealing:
    """Chains that all go from one temperature to the next, and the logarithms of their weights.

    Every bias is either the same for all chains, (n,), or another one for each, (n_chains, n); an
    array, a graph, or a shared variable that may change from run to run.

    :param W: shared weights of the model B, (n_visible, n_hidden)
    :param vbias: visible biases of the model B
    :param hbias: hidden biases of the model B
    :param base_vbias: visible biases of the model A
    :param base_hbias: hidden biases of the model A
    :param betas: inverse temperatures, rising or falling, (n_steps + 1,)
    :param n_chains: number of chains
    :param seed: of the Gibbs steps
    """

    def __init__(self, W: SharedVariable, vbias: Any, hbias: Any, base_vbias: Any,
                 base_hbias: Any, betas: numpy.ndarray, n_chains: int, seed: int):
        floatX = theano.config.floatX
        vbias, hbias, base_vbias, base_hbias = (
            T.cast(bias, floatX) for bias in (vbias, hbias, base_vbias, base_hbias))
        n_visible, _ = W.get_value(borrow=True).shape
        self.v = theano.shared(numpy.zeros((n_chains, n_visible), floatX), name='v')
        self.n_steps = len(betas) - 1
        schedule = T.constant(betas.astype(floatX))
        k = T.lscalar('k')  # of a temperature
        beta, new_beta = schedule[k], schedule[k + 1]
        rng = draws.RandomStreams(seed)

        # log f(v) at the new temperature less that at the old one
        activation = T.dot(self.v, W) + hbias  # (n_chains, n_hidden)
        gain = ((new_beta - beta) * T.sum(self.v * (vbias - base_vbias), axis=1)
                + T.sum(T.softplus(between(new_beta, base_hbias, activation))
                        - T.softplus(between(beta, base_hbias, activation)), axis=1))
        # and a Gibbs step at the new one
        p_h = T.sigmoid(between(new_beta, base_hbias, activation))
        h = rng.bernoulli(p_h.shape, p_h)
        p_v = T.sigmoid(between(new_beta, base_vbias, T.dot(h, W.T) + vbias))
        v = rng.bernoulli(p_v.shape, p_v)
        self.step = engine.function(inputs=[k], outputs=gain,  # (n_chains,)
                                    updates=[(self.v, v), *draws.random_updates(v)])

    def run(self, start: numpy.ndarray, description: str) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Take a Gibbs step at each temperature but the first.

        :param start: the first states, (n_chains, n_visible)
        :param description: for the progress bar
        :return: for each chain, the sum over the steps of log f(v) at the new temperature less
            that at the old one, float64 (n_chains,); and the last states, (n_chains, n_visible)
        """
        self.v.set_value(start.astype(theano.config.floatX))
        log_weights = numpy.zeros(len(start))
        with Progress(description, self.n_steps) as progress:
            for first, last in training.parts(self.n_steps, TEMPERATURES_PER_CALL):
                log_weights += self.step.over(range(first, last)).sum(axis=0, dtype='float64')
                progress.update(last)
        return log_weights, numpy.asarray(self.v.get_value())


def ais_log_partition(rbm: RBM, base_biases: numpy.ndarray, n_chains: int = 100,
                      n_temperatures: int = 14500, seed: int = 0) -> Estimate:
    """log Z of an RBM by annealed importance sampling.

    :param base_biases: visible biases of the model to start from, (n_visible,)
    :param n_chains: independent chains
    :param n_temperatures: Gibbs steps of each of them
    :param seed: of the first states and the chains
    """
    rng = numpy.random.RandomState(seed)
    # samples of the model A
    start = binarized(numpy.tile(expit(base_biases), (n_chains, 1)), rng)
    base_hbias = numpy.zeros(rbm.n_hidden)
    annealing = Annealing(rbm.W, rbm.vbias, rbm.hbias, base_biases, base_hbias,
                          inverse_temperatures(n_temperatures), n_chains, rng.randint(2 ** 30))
    log_weights, _ = annealing.run(start, 'AIS')
    return log_mean_estimate(log_partition_of_base(base_biases, base_hbias) + log_weights)


def reverse_ais_log_likelihood(rbm: RBM, base_biases: numpy.ndarray, images: numpy.ndarray,
                               n_temperatures: int = 14500, seed: int = 0) -> Estimate:
    """Mean log-probability of images by reverse AIS, one chain from each image.

    :param base_biases: visible biases of the model at which the chains end, (n_visible,)
    :param images: zeros and ones, (n_images, n_visible)
    :param n_temperatures: Gibbs steps of each chain
    :param seed: of the chains
    """
    betas = inverse_temperatures(n_temperatures)[::-1]
    base_hbias = numpy.zeros(rbm.n_hidden)
    # A chain backwards, from x_M = v at temperature M to x_0: the transitions are reversible, so
    # the ratio of the probabilities of the path, forwards and backwards, is
    # f_M(v) / Z_A times the product of f_k(x_k) / f_{k+1}(x_k). Here x_k is drawn at temperature
    # k + 1, but the first Gibbs step, which leaves v, belongs to temperature M.
    annealing = Annealing(rbm.W, rbm.vbias, rbm.hbias, base_biases, base_hbias,
                          numpy.concatenate([betas[:1], betas]), len(images), seed)
    log_weights, _ = annealing.run(images, 'reverse AIS')
    log_f = -free_energies(rbm, images)
    return mean_estimate(log_f - log_partition_of_base(base_biases, base_hbias) + log_weights)


def parameters(rbm: RBM) -> list[numpy.ndarray]:
    """W, hidden and visible biases in float64."""
    return [numpy.asarray(param.get_value(), dtype='float64') for param in rbm.params]


def free_energies(rbm: RBM, images: numpy.ndarray) -> numpy.ndarray:
    """F(v) of each image, in float64.

    :param images: (n_images, n_visible)
    """
    W, hbias, vbias = parameters(rbm)
    return -(images @ vbias) - numpy.logaddexp(0, images @ W + hbias).sum(axis=1)


def exact_log_partition(rbm: RBM) -> float:
    """log Z of an RBM by summing over all states of its smaller layer, in float64.

    :raises UserError: when that layer has more than 20 units
    """
    W, hbias, vbias = parameters(rbm)
    if rbm.n_visible < rbm.n_hidden:  # the two layers play the same part in Z
        W, hbias, vbias = W.T, vbias, hbias
    n = W.shape[1]
    if n > ENUMERABLE:
        raise UserError(f'the smaller layer has {n} units: Z is summed exactly for {ENUMERABLE} '
                        'at most')
    logs = []
    for numbers in numpy.array_split(numpy.arange(2 ** n), max(1, 2 ** n // 4096)):
        states = (numbers[:, None] >> numpy.arange(n)) & 1
        logs.append(logsumexp(states @ hbias + numpy.logaddexp(0, states @ W.T + vbias).sum(1)))
    return float(logsumexp(logs))


def binarized(images: numpy.ndarray, rng: numpy.random.RandomState) -> numpy.ndarray:
    """Images with each pixel drawn as on or off, its grey level being the probability.

    :param images: in [0, 1]
    """
    return (rng.uniform(size=images.shape) < images).astype('float64')
