r"""RBM with Gaussian visible units, for data that are real numbers and no probabilities.

Only the term of the visible biases in the energy differs from that of :mod:`rbm`,

.. math::
    E(v, h) = \tfrac{1}{2} |v - b_v|^2 - h \cdot b_h - v W h^\top .

As a function of :math:`v` it is a parabola, so that each visible unit is normally distributed given
the hidden ones. These are on and off as before, and can be summed out as before:

.. math::
    p(v_i \mid h) = \mathcal{N}(b_i + W_{i\cdot} h, \, 1), \qquad
    P(h_j = 1 \mid v) = \sigma(b_{h,j} + v W_{\cdot j}), \qquad
    F(v) = \tfrac{1}{2} |v - b_v|^2 - \sum_j \log(1 + e^{b_{h,j} + v W_{\cdot j}}).

The variance of 1 is part of the model, and :func:`standardize` brings the data to that scale. Where
no sigmoid limits a visible unit, gradients are larger, and learning rates have to be smaller, by a
factor of ten or more.

References:
    - G. E. Hinton, "A practical guide to training restricted Boltzmann machines", 2010,
      section 13.2
"""

from support import command_line, engine, training
from support.checkpoints import resumable
from support.errors import UserError, check

import numpy
import pytensor.tensor as T

from logistic_sgd import SharedDataSets, load_data
from rbm import RBM, train_and_sample


class GaussianRBM(RBM):
    """RBM whose visible units are real numbers; see :class:`rbm.RBM` for arguments and shapes."""

    def free_energy(self, v_sample: T.TensorVariable) -> T.TensorVariable:
        """F(v) = (v - b_v).(v - b_v) / 2 - sum_j log(1 + exp(v W + b_h)_j), (n_examples,)."""
        wx_b = T.dot(v_sample, self.W) + self.hbias  # (n_examples, n_hidden)
        return (T.sum(T.sqr(v_sample - self.vbias), axis=1) / 2
                - T.sum(T.softplus(wx_b), axis=1))

    def propdown(self, hid: T.TensorVariable) -> list[T.TensorVariable]:
        """Mean of v given h, h W.T + b_v, (n_examples, n_visible), twice: there is no sigmoid."""
        mean = T.dot(hid, self.W.T) + self.vbias
        return [mean, mean]

    def sample_v_given_h(self, h0_sample: T.TensorVariable) -> list[T.TensorVariable]:
        """Mean, mean and sample of v given h, N(h W.T + b_v, 1), (n_examples, n_visible) each."""
        _, v1_mean = self.propdown(h0_sample)
        return [v1_mean, v1_mean, v1_mean + self.theano_rng.normal(v1_mean.shape)]

    def get_pseudo_likelihood_cost(self, updates: engine.Updates) -> T.TensorVariable:
        """Mean log-density of the input given what its own hidden units expect, in nats.

        There is no pixel to flip. This is no pseudo-likelihood either, but like that it can be
        had from the minibatch alone, whatever the persistent chains do.
        """
        _, h_mean = self.propup(self.input)
        return self.get_reconstruction_cost(updates, self.propdown(h_mean)[0])

    def get_reconstruction_cost(self, updates: engine.Updates,
                                pre_sigmoid_nv: T.TensorVariable) -> T.TensorVariable:
        """Log-density of the input given the hidden units at the end of the chain, in nats.

        :param pre_sigmoid_nv: mean of the visible units, (batch_size, n_visible)
        """
        log_density = -(T.sqr(self.input - pre_sigmoid_nv) + numpy.log(2 * numpy.pi)) / 2
        return T.mean(T.sum(log_density, axis=1))


def standardize(data: SharedDataSets) -> SharedDataSets:
    """Shift each pixel to mean 0, and scale all of them by one number to variance 1 on average.

    Mean and scale are those of the training set, for all three sets. One number for all pixels,
    since a pixel that hardly ever changes would otherwise count as much as any other, noise and
    all. Whitening, which also takes away the correlations between pixels, goes further; it suits
    natural images, whose neighbouring pixels are nearly alike.

    :param data: changed in place, and returned
    :raises UserError: when all training images are the same
    """
    train = numpy.asarray(data[0][0].get_value(borrow=True))
    mean = train.mean(axis=0, dtype='float64')
    scale = numpy.sqrt(numpy.mean(train.var(axis=0, dtype='float64')))
    if scale == 0:
        raise UserError(f'all training images of {data.name} are the same: there is nothing to '
                        'learn')
    data[:] = [(engine.shared_data((numpy.asarray(x.get_value(borrow=True)) - mean) / scale), y)
               for x, y in data]
    return data


def build(n_visible: int, n_hidden: int) -> GaussianRBM:
    """An RBM with an input of its own, for parameters that were saved."""
    return GaussianRBM(n_visible=n_visible, n_hidden=n_hidden)


@resumable
def train(learning_rate: float = 0.001, training_epochs: int = 15, dataset: str | None = None,
          batch_size: int = 20, n_chains: int = 20, n_samples: int = 10,
          output_folder: str = 'gaussian_rbm_plots', n_hidden: int = 500, k: int = 15,
          persistent: bool = True, lr_decay: float = 1.0, plot_every: int = 1000,
          seed: int | None = None, resume: bool = False,
          overwrite: bool = False) -> training.Result:
    """Train an RBM with Gaussian visible units on standardised images, and sample it.

    For example::

        python code/gaussian_rbm.py --training-epochs 3
        python code/gaussian_rbm.py --n-hidden 200 --output-folder small_output

    :param learning_rate: length of a step down the gradient
    :param training_epochs: passes through the training set
    :param dataset: MNIST when left out; a file or a folder of images, or digits
    :param batch_size: examples in a minibatch, and number of persistent chains
    :param n_chains: chains to sample from in the end, one a column of the picture
    :param n_samples: samples to draw from each chain, one a row of the picture
    :param output_folder: for the pictures, checkpoints and the history
    :param n_hidden: number of hidden units
    :param k: Gibbs steps in an update
    :param persistent: let the chains of training go on from update to update (PCD); with
        --no-persistent they start at the data (CD)
    :param lr_decay: the learning rate is multiplied by it after every epoch
    :param plot_every: Gibbs steps between two samples
    :param seed: of the initial weights and all samples; 123 when left out
    :param resume: go on with the run in the output folder; when it is complete, sample again
    :param overwrite: replace the run in the output folder
    """
    seed = 123 if seed is None else seed
    settings = dict(locals())
    check(0, seed=seed)
    data = standardize(load_data(dataset))

    print('... building the model', flush=True)
    rng = numpy.random.RandomState(seed)
    rbm = GaussianRBM(n_visible=data.n_in, n_hidden=n_hidden, numpy_rng=rng)
    return train_and_sample('gaussian_rbm', rbm, rbm.input, data, rng, settings)


if __name__ == '__main__':
    command_line.main(train)
