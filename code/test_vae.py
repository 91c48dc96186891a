"""Tests of the variational auto-encoder."""

import unittest

from support import datasets, draws
from support.testing import (
    REFERENCE_MODE,
    TestCase,
    finite_difference_error,
    in_float64,
    printed,
)

import numpy
import pytensor as theano
import pytensor.tensor as T
from scipy import integrate, stats
from scipy.special import expit, logsumexp

import vae


def small_vae(n_visible=6, hidden_layers_sizes=(5, 4), n_latent=1, seed=0):
    """A model whose weights are large enough to matter, and its parameters as NumPy arrays."""
    rng = numpy.random.RandomState(seed)
    model = vae.VAE(rng, None, None, n_visible, hidden_layers_sizes, n_latent)
    for param in model.params:
        value = rng.normal(0, .7, size=param.get_value().shape)
        param.set_value(value.astype(theano.config.floatX))
    return model


def decoded(model, z):
    """The probabilities of pixels from codes by NumPy alone."""
    *hidden, (W, b) = [[param.get_value() for param in layer] for layer in model.decoder]
    for W_hidden, b_hidden in hidden:
        z = numpy.tanh(z @ W_hidden + b_hidden)
    return expit(z @ W + b)


def images(n, n_visible=6, seed=1):
    return numpy.random.RandomState(seed).binomial(1, .5, (n, n_visible)).astype('float32')


def value(graph, v, given, n=1):
    """What a graph of ``v`` is worth for each image, with ``n`` draws: (n, n_images)."""
    function = theano.function([v], graph, updates=draws.random_updates(graph),
                               mode=REFERENCE_MODE)
    return function(numpy.tile(given, (n, 1))).reshape(n, len(given), -1).squeeze(axis=2)


class TestVAE(TestCase):
    def log_p(self, model, image):
        """log p(v) for a code of one number, by quadrature."""
        def density(z):
            p = decoded(model, numpy.array([z]))
            return numpy.prod(numpy.where(image, p, 1 - p)) * stats.norm.pdf(z)
        return numpy.log(integrate.quad(density, -9, 9, epsabs=1e-12, limit=200)[0])

    def test_bounds_lie_below_the_log_likelihood_and_approach_it(self):
        model, v, given = small_vae(), T.matrix('v'), images(4)
        exact = [self.log_p(model, image) for image in given]
        bound = value(model.get_lower_bound(v), v, given, 4000).mean(axis=0)
        few, many = (value(model.get_importance_weighted_bound(v, n), v, given, times)
                     for n, times in ((5, 1000), (20_000, 5)))
        self.assertTrue((bound < few.mean(axis=0)).all())
        self.assertTrue((few.mean(axis=0) < exact).all())
        numpy.testing.assert_allclose(many.mean(axis=0), exact, atol=.05)

    def test_one_code_gives_the_bound_in_the_mean(self):
        model, v, given = small_vae(n_latent=3), T.matrix('v'), images(2)
        bound, one = (value(graph, v, given, 4000) for graph in (
            model.get_lower_bound(v), model.get_importance_weighted_bound(v, 1)))
        error = 4 * numpy.sqrt((bound.var(axis=0) + one.var(axis=0)) / 4000)
        self.assertTrue((abs(bound.mean(axis=0) - one.mean(axis=0)) < error).all())

    def test_divergence_by_quadrature(self):
        model, v, given = small_vae(), T.matrix('v'), images(3)
        for layer in model.decoder:  # a decoder that does not listen leaves the divergence alone
            layer[0].set_value(numpy.zeros_like(layer[0].get_value()))
        p = decoded(model, numpy.zeros((1, 1)))
        log_p = numpy.log(numpy.where(given, p, 1 - p)).sum(axis=1)
        divergence = log_p - value(model.get_lower_bound(v), v, given)[0]
        mean, log_variance = theano.function([v], model.encode(v), mode=REFERENCE_MODE)(given)
        for expected, m, s in zip(divergence, mean[:, 0], numpy.exp(log_variance[:, 0] / 2),
                                  strict=True):
            q = stats.norm(m, s)
            entropy, cross_entropy = (-q.expect(log_p) for log_p in (q.logpdf, stats.norm.logpdf))
            self.assertAlmostEqual(cross_entropy - entropy, expected, places=4)

    def test_importance_weights_by_numpy(self):
        model, v, given = small_vae(n_latent=2), T.matrix('v'), images(3)
        noise = numpy.random.RandomState(2).normal(size=(7, 3, 2)).astype('float32')
        model.theano_rng.normal = lambda size: T.constant(noise)
        found = theano.function([v], model.get_importance_weighted_bound(v, 7),
                                mode=REFERENCE_MODE)(given)
        mean, log_variance = theano.function([v], model.encode(v), mode=REFERENCE_MODE)(given)
        scale = numpy.exp(log_variance / 2)
        z = mean + scale * noise
        p = decoded(model, z)
        log_w = (numpy.log(numpy.where(given, p, 1 - p)).sum(axis=2)
                 + stats.norm.logpdf(z).sum(axis=2) - stats.norm(mean, scale).logpdf(z).sum(axis=2))
        numpy.testing.assert_allclose(found, logsumexp(log_w, axis=0) - numpy.log(7), rtol=1e-4)

    def test_gradients(self):
        with in_float64():
            model = small_vae(n_latent=2)
            noise = numpy.random.RandomState(3).normal(size=(3, 2))
            model.theano_rng.normal = lambda size: T.constant(noise)
            cost = T.mean(model.get_lower_bound(T.constant(images(3).astype('float64'))))
            self.assertLess(finite_difference_error(cost, model.params), 1e-6)

    def test_pixels_are_drawn_from_their_grey_levels(self):
        model = small_vae()
        grey = numpy.tile(numpy.float32([0, .2, .5, .5, .8, 1]), (20_000, 1))
        drawn = theano.function([model.x], model.get_images(), mode=REFERENCE_MODE)(grey)
        self.assertEqual(set(numpy.unique(drawn)), {0, 1})
        numpy.testing.assert_allclose(drawn.mean(axis=0), grey[0], atol=.015)

    def test_training(self):
        with printed():
            result = vae.train(dataset='digits', training_epochs=15, batch_size=20, n_latent=10,
                               hidden_layers_sizes=(100,), n_codes=20,
                               output_folder=str(self.folder / 'vae'))
        data = datasets.read('digits')
        mean = data.train[0].mean(axis=0).clip(1e-3, 1 - 1e-3)
        test = data.test[0]
        alone = (test * numpy.log(mean) + (1 - test) * numpy.log(1 - mean)).sum(axis=1).mean()
        bound, likelihood = (result.scores[name] for name in ('test_bound', 'test_log_likelihood'))
        self.assertGreater(likelihood, bound)
        self.assertGreater(bound, alone + 50)  # measured: 66
        self.assertTrue((self.folder / 'vae' / 'samples.png').exists())


if __name__ == '__main__':
    unittest.main()
