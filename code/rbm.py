r"""Restricted Boltzmann machines: a distribution over images, learnt from images alone.

Visible units :math:`v` (the pixels) and hidden units :math:`h` are on or off, and a joint state is
the more probable the lower its energy

.. math::
    E(v, h) = -v \cdot b_v - h \cdot b_h - v W h^\top, \qquad p(v, h) = \frac{e^{-E(v, h)}}{Z}.

There are no connections inside a layer, so that the units of one layer are independent given the
other, and the hidden units can be summed out, which leaves the free energy of an image:

.. math::
    P(h_j = 1 \mid v) = \sigma(b_{h,j} + v W_{\cdot j}), \qquad
    F(v) = -v \cdot b_v - \sum_j \log(1 + e^{b_{h,j} + v W_{\cdot j}}), \qquad
    p(v) = \frac{e^{-F(v)}}{Z}.

The likelihood rises along :math:`-\partial F(\mathrm{data}) / \partial\theta` plus the mean of
:math:`\partial F(v) / \partial\theta` over the model's own distribution. That mean is estimated
from the end of a Gibbs chain of k steps, which starts at the data in contrastive divergence
(CD-k), and where the last update left it in persistent contrastive divergence (PCD-k).

References:
    - G. E. Hinton, "Training products of experts by minimizing contrastive divergence", 2002
    - T. Tieleman, "Training restricted Boltzmann machines using approximations to the likelihood
      gradient", 2008, for the persistent chain
    - Y. Bengio, "Learning deep architectures for AI", 2009, chapter 5
    - G. E. Hinton, "A practical guide to training restricted Boltzmann machines", 2010, section 8,
      for small weights and log-odds to begin with
    - J. Melchior, A. Fischer, L. Wiskott, "How to center deep Boltzmann machines", 2016
"""

import copy
from collections.abc import Sequence
from typing import Any

from support import command_line, draws, engine, training
from support.checkpoints import Run, resumable
from support.errors import MOST, check, choose
from support.optimisers import OPTIMISERS, averaged, decayed
from support.tiles import save_filters, save_picture, tile_raster_images

import numpy
import pytensor as theano
import pytensor.tensor as T
from pytensor.compile.sharedvalue import SharedVariable
from scipy.special import expit

from logistic_sgd import SharedDataSets, load_data


class RBM:
    """Restricted Boltzmann machine with binary units.

    Visible units, here and in all methods, are (n_examples, n_visible), hidden ones (n_examples,
    n_hidden). Parameters that are given are used instead of new ones: W, (n_visible, n_hidden),
    hbias, (n_hidden,), and vbias, (n_visible,), or other biases for each example.

    :param input: symbolic minibatch in [0, 1]; None for a new variable
    :param numpy_rng: where the seed of ``theano_rng``, and then the initial weights, are drawn
        from; None for ``RandomState(1234)``
    :param theano_rng: source of the samples; None for a new one
    """

    def __init__(self, input: T.TensorVariable | None = None, n_visible: int = 784,
                 n_hidden: int = 500, W: SharedVariable | None = None,
                 hbias: SharedVariable | None = None, vbias: SharedVariable | None = None,
                 numpy_rng: numpy.random.RandomState | None = None,
                 theano_rng: draws.RandomStreams | None = None):
        check(1, n_visible=n_visible, n_hidden=n_hidden)
        if numpy_rng is None:
            numpy_rng = numpy.random.RandomState(1234)
        if theano_rng is None:
            theano_rng = draws.RandomStreams(numpy_rng.randint(2 ** 30))
        if W is None:
            bound = 4 * numpy.sqrt(6. / (n_visible + n_hidden))  # as for a sigmoid layer of an MLP
            W_values = numpy_rng.uniform(low=-bound, high=bound, size=(n_visible, n_hidden))
            W = theano.shared(W_values.astype(theano.config.floatX), name='W')
        if hbias is None:
            hbias = theano.shared(numpy.zeros(n_hidden, dtype=theano.config.floatX), name='hbias')
        if vbias is None:
            vbias = theano.shared(numpy.zeros(n_visible, dtype=theano.config.floatX), name='vbias')
        self.n_visible = n_visible
        self.n_hidden = n_hidden
        self.W = W
        self.hbias = hbias
        self.vbias = vbias
        self.theano_rng = theano_rng
        self.input = T.matrix('input') if input is None else input
        self.params = [self.W, self.hbias, self.vbias]
        # The pixel whose pseudo-likelihood the next update measures.
        self.bit_i_idx = theano.shared(numpy.int64(0), name='bit_i_idx')

    def free_energy(self, v_sample: T.TensorVariable) -> T.TensorVariable:
        """F(v) = -v.b_v - sum_j log(1 + exp(v W + b_h)_j), (n_examples,)."""
        wx_b = T.dot(v_sample, self.W) + self.hbias  # (n_examples, n_hidden)
        # Not a product with vbias, which may be another one for each example.
        return -T.sum(v_sample * self.vbias, axis=-1) - T.sum(T.softplus(wx_b), axis=-1)

    def propup(self, vis: T.TensorVariable) -> list[T.TensorVariable]:
        """P(h = 1 | v) = sigmoid(v W + b_h).

        :return: what goes into the sigmoid, from which a logarithm of the probability can be had
            that is never infinite, and the probability
        """
        pre_sigmoid_activation = T.dot(vis, self.W) + self.hbias
        return [pre_sigmoid_activation, T.sigmoid(pre_sigmoid_activation)]

    def sample_h_given_v(self, v0_sample: T.TensorVariable) -> list[T.TensorVariable]:
        """Pre-sigmoid activation, probability and sample of h given v."""
        pre_sigmoid_h1, h1_mean = self.propup(v0_sample)
        return [pre_sigmoid_h1, h1_mean, self.theano_rng.bernoulli(h1_mean.shape, h1_mean)]

    def propdown(self, hid: T.TensorVariable) -> list[T.TensorVariable]:
        """Pre-sigmoid activation and probability, P(v = 1 | h) = sigmoid(h W.T + b_v)."""
        pre_sigmoid_activation = T.dot(hid, self.W.T) + self.vbias
        return [pre_sigmoid_activation, T.sigmoid(pre_sigmoid_activation)]

    def sample_v_given_h(self, h0_sample: T.TensorVariable) -> list[T.TensorVariable]:
        """Pre-sigmoid activation, probability and sample of v given h."""
        pre_sigmoid_v1, v1_mean = self.propdown(h0_sample)
        return [pre_sigmoid_v1, v1_mean, self.theano_rng.bernoulli(v1_mean.shape, v1_mean)]

    def gibbs_hvh(self, h0_sample: T.TensorVariable) -> list[T.TensorVariable]:
        """A Gibbs step from h to h: activation, probability and sample of v, then of h."""
        v1 = self.sample_v_given_h(h0_sample)
        return [*v1, *self.sample_h_given_v(v1[-1])]

    def gibbs_vhv(self, v0_sample: T.TensorVariable) -> list[T.TensorVariable]:
        """A Gibbs step from v to v: activation, probability and sample of h, then of v."""
        h1 = self.sample_h_given_v(v0_sample)
        return [*h1, *self.sample_v_given_h(h1[-1])]

    def reconstruct(self, v: T.TensorVariable) -> T.TensorVariable:
        """What comes back of images, (n_examples, n_visible), by way of P(h = 1 | v)."""
        return self.propdown(self.propup(v)[1])[1]

    def sample(self, rng: numpy.random.RandomState, n: int) -> numpy.ndarray:
        """P(v = 1 | h) after 5,000 Gibbs steps of chains that begin with independent pixels.

        :return: floatX (n, n_visible)
        """
        self.theano_rng = draws.RandomStreams(rng.randint(2 ** 30))
        probable = expit(numpy.asarray(self.vbias.get_value()))
        return Sampler(self, rng.uniform(size=(n, self.n_visible)) < probable).advance(5000)

    def get_cost_updates(self, lr: T.TensorVariable | float = 0.1,
                         persistent: SharedVariable | None = None, k: int = 1,
                         optimiser: str = 'sgd', weight_decay: float = 0.,
                         visible_mean: numpy.ndarray | None = None
                         ) -> tuple[T.TensorVariable, engine.Updates]:
        """One step of CD-k, or of PCD-k.

        :param lr: learning rate
        :param persistent: shared hidden samples, (batch_size, n_hidden), of the chains that go on
            from update to update; None for chains that start at the data
        :param k: Gibbs steps in an update
        :param optimiser: a name in ``optimisers.OPTIMISERS``
        :param weight_decay: of the weights, see ``optimisers.decayed``
        :param visible_mean: of the training images, (n_visible,), for the :meth:`centred`
            gradient; None for the plain one
        :return: what to watch, a scalar: the pseudo-likelihood with persistent chains, which have
            nothing to do with the minibatch, and the cross-entropy of the reconstruction without;
            and the updates
        """
        _, _, ph_sample = self.sample_h_given_v(self.input)
        chain_start = ph_sample if persistent is None else persistent
        (pre_sigmoid_nv, _, chain_end, _, _, nh_sample), updates = draws.chain(
            self.gibbs_hvh, chain_start, n_steps=k)

        cost = T.mean(self.free_energy(self.input)) - T.mean(self.free_energy(chain_end))
        # The samples depend on the parameters too, but the gradient of the likelihood does not
        # run through them.
        gradients = T.grad(cost, self.params, consider_constant=[chain_end])
        if visible_mean is not None:
            gradients, mean_updates = self.centred(gradients, visible_mean)
            updates += mean_updates
        steps = choose(OPTIMISERS, optimiser=optimiser)(self.params, gradients, lr)
        updates += decayed(steps, [self.W], lr, weight_decay) if weight_decay else steps
        if persistent is None:
            updates += draws.random_updates(ph_sample, blockers=[self.input])
            return self.get_reconstruction_cost(updates, pre_sigmoid_nv), updates
        updates.append((persistent, nh_sample))
        return self.get_pseudo_likelihood_cost(updates), updates

    def centred(self, gradients: Sequence[T.TensorVariable], visible_mean: numpy.ndarray
                ) -> tuple[list[T.TensorVariable], engine.Updates]:
        """The gradient with which a step of the weights leaves alone what the biases are to learn.

        It is that of the same model with units from which their means are subtracted, mu of the
        visible and lambda of the hidden ones, brought back to the usual form: dW - mu dc' -
        db lambda', and from that dc - mu' dW and db - dW lambda (Melchior et al., 2016).

        :param gradients: with respect to W, hbias and vbias
        :param visible_mean: mu, (n_visible,)
        :return: the gradients, and the update of lambda, a running mean over minibatches
        """
        W, hbias, vbias = gradients
        mu = T.constant(visible_mean.astype(theano.config.floatX))
        hidden_mean = theano.shared(numpy.full(self.n_hidden, .5, theano.config.floatX),
                                    name='hidden_mean')
        _, probability = self.propup(self.input)
        new_mean = .99 * hidden_mean + .01 * T.mean(probability, axis=0)
        W = W - T.outer(mu, hbias) - T.outer(vbias, hidden_mean)
        return ([W, hbias - T.dot(mu, W), vbias - T.dot(W, hidden_mean)],
                [(hidden_mean, new_mean)])

    def begin_centred(self, images: numpy.ndarray, rng: numpy.random.RandomState) -> None:
        """Begin with weights so small that the units of each layer are independent, and with the
        log-odds of the pixels.

        :param images: (n_examples, n_visible) in [0, 1]
        """
        floatX = theano.config.floatX
        self.W.set_value(rng.normal(scale=.01, size=self.W.get_value().shape).astype(floatX))
        self.vbias.set_value(base_rate_biases(images).astype(floatX))

    def get_pseudo_likelihood_cost(self, updates: engine.Updates) -> T.TensorVariable:
        """Estimate of the log-pseudo-likelihood, sum_i log P(v_i | all other v), in nats.

        The likelihood would need Z; the probability of one pixel given the others needs two free
        energies. One pixel is measured at each update, the next one at the next, and stands for
        all: n_visible log sigmoid(F(v with pixel i flipped) - F(v)).

        :param updates: where that of the pixel's number is added
        :return: scalar, mean over the minibatch
        """
        # Grey levels are no states of binary units. One half, which MNIST has, counts as on.
        xi = T.cast(T.ge(self.input, 0.5), theano.config.floatX)
        xi_flip = T.set_subtensor(xi[:, self.bit_i_idx], 1 - xi[:, self.bit_i_idx])
        updates.append((self.bit_i_idx, (self.bit_i_idx + 1) % self.n_visible))
        # log sigmoid(a) = -softplus(-a), which is finite for every a.
        log_p = -T.softplus(self.free_energy(xi) - self.free_energy(xi_flip))
        return T.mean(self.n_visible * log_p)

    def get_reconstruction_cost(self, updates: engine.Updates,
                                pre_sigmoid_nv: T.TensorVariable) -> T.TensorVariable:
        """Log-probability of the input given the hidden units at the end of the chain, in nats.

        This is the negative cross-entropy between input and reconstruction.

        :param updates: not needed; :meth:`get_pseudo_likelihood_cost` needs them
        :param pre_sigmoid_nv: activation of the visible units
        :return: summed over the visible units, mean over the minibatch
        """
        # x log sigmoid(a) + (1 - x) log(1 - sigmoid(a)) = x a - softplus(a)
        return T.mean(T.sum(self.input * pre_sigmoid_nv - T.softplus(pre_sigmoid_nv), axis=1))


def base_rate_biases(images: numpy.ndarray) -> numpy.ndarray:
    """Visible biases of a model of independent pixels: the log-odds of each, never infinite.

    :param images: (n_examples, n_visible) in [0, 1]
    :return: float64 (n_visible,)
    """
    # As if there were one more image, all of whose pixels are half on.
    p = (images.sum(axis=0, dtype='float64') + 0.5) / (len(images) + 1)
    return numpy.log(p) - numpy.log1p(-p)


def build(n_visible: int, n_hidden: int) -> RBM:
    """An RBM with an input of its own, for parameters that were saved."""
    return RBM(n_visible=n_visible, n_hidden=n_hidden)


class Sampler:
    """Gibbs chains side by side.

    :param rbm: the model to sample from
    :param start: first visible states, floatX (n_chains, n_visible)
    """

    def __init__(self, rbm: RBM, start: numpy.ndarray):
        self.samples = theano.shared(start.astype(theano.config.floatX), name='samples')
        self.means = theano.shared(start.astype(theano.config.floatX), name='means')
        *_, vis_mf, vis_sample = rbm.gibbs_vhv(self.samples)
        self.step = engine.function(
            inputs=[T.lscalar('step')], outputs=T.mean(vis_sample),
            updates=[(self.samples, vis_sample), (self.means, vis_mf),
                     *draws.random_updates(vis_sample)])

    def advance(self, n_steps: int) -> numpy.ndarray:
        """Take Gibbs steps, and go on from there the next time.

        :return: P(v = 1 | h) of the last step, (n_chains, n_visible): smoother to look at than
            the sample that was drawn from it
        """
        self.step.over(range(n_steps))
        return numpy.asarray(self.means.get_value())


def train_and_sample(script: str, rbm: RBM, x: T.TensorVariable, data: SharedDataSets,
                     rng: numpy.random.RandomState, settings: dict, average: int = 0,
                     **of_update: Any) -> training.Result:
    """Train an RBM, with a picture of its filters after each epoch, and then sample from it.

    :param rbm: its input is ``x``, or drawn from it
    :param x: symbolic minibatch of images
    :param rng: chooses the first of the test images that start the chains
    :param settings: the keyword arguments of :func:`train`
    :param average: keep the average of the parameters over so many updates; 0 for the last ones
    :param of_update: further arguments of :meth:`RBM.get_cost_updates`
    """
    test_images = numpy.asarray(data[2][0].get_value(borrow=True))
    for low, high, names in ((0, MOST, ('learning_rate', 'training_epochs')),
                             (1, MOST, ('n_samples', 'plot_every', 'batch_size')),
                             (0, 1, ('lr_decay',)), (1, len(test_images), ('n_chains',))):
        check(low, high, **{name: settings[name] for name in names})
    index = T.lscalar('index')  # of a minibatch
    lr = T.scalar('lr')
    batch_size, n_chains, persistent = (settings[name] for name in (
        'batch_size', 'n_chains', 'persistent'))
    persistent_chain = theano.shared(
        numpy.zeros((batch_size, rbm.n_hidden), dtype=theano.config.floatX), name='chain')
    cost, updates = rbm.get_cost_updates(lr, persistent_chain if persistent else None,
                                         settings['k'], **of_update)
    kept = rbm
    if average:
        kept = copy.copy(rbm)
        kept.params, of_average = averaged(updates, rbm.params, average)
        kept.W, kept.hbias, kept.vbias = kept.params
        updates += of_average
    train_rbm = engine.function(
        inputs=[index, lr], outputs=cost, updates=updates + draws.random_updates(rbm.input),
        givens={x: engine.minibatch(data[0][0], index, batch_size)})
    sizes = {'n_visible': rbm.n_visible, 'n_hidden': rbm.n_hidden}

    with Run(script, settings, data, kept.params, sizes,
             ['training_epochs', 'n_chains', 'n_samples', 'plot_every']) as run:
        def keep(epoch, row):
            save_filters(run.file(f'filters_at_epoch_{epoch}.png'),
                         numpy.asarray(kept.W.get_value()), data.image_shape)
            run.keep_model()

        print('... training', flush=True)
        history = training.train_epochs(
            run, 'training', train_rbm, settings['training_epochs'], after_epoch=keep,
            scalars=lambda epoch: {'lr': settings['learning_rate'] * settings['lr_decay'] ** epoch},
            report=lambda epoch, cost: f'Training epoch {epoch}, cost is {cost}')

        print('... sampling', flush=True)
        first = rng.randint(len(test_images) - n_chains) if len(test_images) > n_chains else 0
        sampler = Sampler(kept, test_images[first:first + n_chains])
        height, width = data.image_shape
        # A column for each chain, and a row, with an empty line of pixels, for each sample.
        picture = numpy.zeros(((height + 1) * settings['n_samples'] + 1,
                               (width + 1) * n_chains - 1), dtype='uint8')
        for i in range(settings['n_samples']):
            print(f' ... plotting sample {i}', flush=True)
            run.check_interruption()
            picture[(height + 1) * i:][:height] = tile_raster_images(
                sampler.advance(settings['plot_every']), img_shape=data.image_shape,
                tile_shape=(1, n_chains), tile_spacing=(1, 1))
        save_picture(run.file('samples.png'), picture)
        run.keep_model()
        scores = {'cost': history[-1]['cost']} if history else {}
        run.finish(scores)
        return training.result(run, kept, scores)


@resumable
def train(learning_rate: float = 0.1, training_epochs: int = 15, dataset: str | None = None,
          batch_size: int = 20, n_chains: int = 20, n_samples: int = 10,
          output_folder: str = 'rbm_plots', n_hidden: int = 500, k: int = 15,
          persistent: bool = True, sample_pixels: bool = False, lr_decay: float = 1.0,
          optimiser: str = 'sgd', weight_decay: float = 0., centred: bool = False,
          average: int = 0, plot_every: int = 1000, seed: int | None = None, resume: bool = False,
          overwrite: bool = False) -> training.Result:
    """Train a restricted Boltzmann machine by (persistent) contrastive divergence and sample it.

    For example::

        python code/rbm.py --training-epochs 3 --output-folder short_output
        python code/rbm.py --k 1 --no-persistent --output-folder CD1_output

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
    :param sample_pixels: draw each pixel as on or off, with its grey level as the probability,
        whenever it is used, instead of using the grey level itself
    :param lr_decay: the learning rate is multiplied by it after every epoch
    :param optimiser: sgd, momentum, nesterov, rmsprop or adam
    :param weight_decay: every update takes this, times the learning rate, off each weight
    :param centred: take the gradient of a model with centred units, and begin with small weights
        and the log-odds of the pixels
    :param average: keep the average of the parameters over the last so many updates, about; 0 for
        what the last update has left
    :param plot_every: Gibbs steps between two samples
    :param seed: of the initial weights and all samples; 123 when left out
    :param resume: go on with the run in the output folder; when it is complete, sample again
    :param overwrite: replace the run in the output folder
    """
    seed = 123 if seed is None else seed
    settings = dict(locals())
    check(0, seed=seed, weight_decay=weight_decay, average=average)
    data = load_data(dataset)

    print('... building the model', flush=True)
    rng = numpy.random.RandomState(seed)
    theano_rng = draws.RandomStreams(rng.randint(2 ** 30))
    x = T.matrix('x')  # images, one flattened image a row
    binary = theano_rng.bernoulli(x.shape, x) if sample_pixels else x
    rbm = RBM(input=binary, n_visible=data.n_in, n_hidden=n_hidden, numpy_rng=rng,
              theano_rng=theano_rng)
    visible_mean = None
    if centred:
        images = numpy.asarray(data[0][0].get_value(borrow=True))
        visible_mean = images.mean(axis=0)
        rbm.begin_centred(images, rng)
    return train_and_sample('rbm', rbm, x, data, rng, settings, average, optimiser=optimiser,
                            weight_decay=weight_decay, visible_mean=visible_mean)


test_rbm = train  # its name in the old tutorials


if __name__ == '__main__':
    command_line.main(train)
