"""Tests of support.convolution."""

import functools
import itertools
from unittest import mock

from support import convolution, engine
from support.convolution import conv2d, max_pool_2d
from support.testing import REFERENCE_MODE, TestCase, finite_difference_error, in_float64

import numpy
import pytensor as theano
import pytensor.tensor as T
from scipy.signal import convolve2d, correlate2d

# Shapes of images and filters: the usual, not square, one channel, one image, a filter of one
# weight, a filter as large as the image, a filter of even size, an output of prime size.
SHAPES = [
    ((2, 3, 8, 8), (4, 3, 5, 5)),
    ((2, 3, 9, 12), (4, 3, 3, 4)),
    ((3, 1, 12, 7), (2, 1, 5, 2)),
    ((1, 2, 6, 6), (3, 2, 1, 1)),
    ((2, 2, 5, 4), (3, 2, 5, 4)),
    ((2, 20, 6, 6), (5, 20, 2, 2)),
    ((1, 1, 15, 23), (1, 1, 3, 5)),
]


MODES = ('valid', 'full')
BORDERS = (True, False)  # ignored or not


def values(shapes, dtype='float64', seed=0):
    rng = numpy.random.RandomState(seed)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def known_convolution(images, filters, border_mode):
    """The definition, channel by channel, with SciPy's convolution of two matrices."""
    return numpy.array([[sum(convolve2d(x, w, border_mode)
                             for x, w in zip(image, kernel, strict=True))
                         for kernel in filters] for image in images])


def known_gradients(images, filters, errors, border_mode):
    """Gradients of sum(errors * convolution): correlations of the errors with the other factor."""
    d_images, d_filters = numpy.zeros_like(images), numpy.zeros_like(filters)
    other = {'valid': 'full', 'full': 'valid'}[border_mode]
    for n, o, c in numpy.ndindex(len(images), *filters.shape[:2]):
        error, image, kernel = errors[n, o], images[n, c], filters[o, c]
        d_images[n, c] += correlate2d(error, kernel, other)
        # What is larger comes first in a valid correlation.
        d_filters[o, c] += (correlate2d(image, error, 'valid')[::-1, ::-1]
                            if border_mode == 'valid' else correlate2d(error, image, 'valid'))
    return d_images, d_filters


def windows(images, ds, ignore_border):
    """The place of each window in the result, and where it lies in the images: a plain loop."""
    rows, columns = (size // d if ignore_border else -(-size // d)
                     for size, d in zip(images.shape[2:], ds, strict=True))
    for n, c, i, j in numpy.ndindex(*images.shape[:2], rows, columns):
        yield (n, c, i, j), (n, c, slice(i * ds[0], (i + 1) * ds[0]),
                             slice(j * ds[1], (j + 1) * ds[1]))


def known_pooling(images, ds, ignore_border):
    maxima = {place: images[window].max() for place, window in windows(images, ds, ignore_border)}
    return numpy.array(list(maxima.values())).reshape(numpy.add(max(maxima), 1))


def symbolic(array, batch_is_known=True):
    shape = array.shape if batch_is_known else (None, *array.shape[1:])
    return T.tensor(dtype=array.dtype, shape=shape)


class TestConvolution(TestCase):
    def check(self, shapes, border_mode):
        """In the mode of the scripts, and in their precision."""
        images, filters = values(shapes, theano.config.floatX)
        x, w = symbolic(images), symbolic(filters)
        output = conv2d(x, w, border_mode)
        expected = known_convolution(images, filters, border_mode)
        self.assertEqual(output.type.shape, expected.shape)
        errors, = values([expected.shape], theano.config.floatX, seed=1)
        function = theano.function([x, w], [output, *T.grad(T.sum(output * errors), [x, w])])
        for array, known in zip(
                function(images, filters),
                [expected, *known_gradients(images, filters, errors, border_mode)], strict=True):
            self.assertLess(abs(numpy.asarray(array) - known).max(), 1e-5 * abs(known).max())

    def test_values_and_gradients(self):
        for shapes, border_mode in itertools.product(SHAPES, MODES):
            with self.subTest(shapes=shapes, border_mode=border_mode):
                self.check(shapes, border_mode)

    def test_library(self):
        if engine.mode_name() != 'JAX':
            self.skipTest('the library is used in JAX mode')
        with mock.patch('support.engine.device', return_value='gpu'):
            for shapes, border_mode in itertools.product(SHAPES[:3], MODES):
                self.check(shapes, border_mode)

    def test_finite_differences(self):
        for border_mode, ignore_border in zip(MODES, BORDERS, strict=True):
            with in_float64():
                x, w = (theano.shared(array, shape=array.shape) for array in values(SHAPES[1]))
                maps = T.tanh(conv2d(x, w, border_mode))
                cost = T.sum(T.sqr(max_pool_2d(maps, (2, 3), ignore_border)))
                self.assertLess(finite_difference_error(cost, [x, w]), 1e-6)

    def test_every_form_gives_the_same(self):
        """In float64, so that nothing but rounding is forgiven, and by SciPy."""
        forms = [convolution._frequency_convolution,
                 *[functools.partial(convolution._block_convolution, block=block)
                   for block in ((1, 1), (1, 9), (7, 1), (2, 3), (8, 8))]]
        for shapes in (SHAPES[1], SHAPES[2], SHAPES[4]):  # sizes even and odd, and one output
            images, filters = values(shapes)
            x, w = symbolic(images), symbolic(filters)
            expected = known_convolution(images, filters, 'valid')
            errors, = values([expected.shape], seed=1)
            gradients = known_gradients(images, filters, errors, 'valid')
            for form in forms:
                with mock.patch('support.convolution._best_form', return_value=form):
                    output = conv2d(x, w)
                function = theano.function([x, w], mode=REFERENCE_MODE, outputs=[
                    output, *T.grad(T.sum(output * errors), [x, w])])
                for array, known in zip(function(images, filters), [expected, *gradients],
                                        strict=True):
                    numpy.testing.assert_allclose(array, known, atol=1e-12)

    def test_choice_of_the_form(self):
        few_channels = convolution._best_form((1, 28, 28), (20, 1, 5, 5))
        self.assertIs(few_channels.func, convolution._block_convolution)
        self.assertEqual(few_channels.keywords, {'block': (2, 2)})
        self.assertIs(convolution._best_form((20, 12, 12), (50, 20, 5, 5)),
                      convolution._frequency_convolution)
        # The transform of a large image would take more than it saves.
        large = convolution._best_form((20, 64, 64), (50, 20, 5, 5))
        self.assertIs(large.func, convolution._block_convolution)

    def test_any_number_of_images(self):
        images, filters = values(SHAPES[1], theano.config.floatX)
        x, w = symbolic(images, batch_is_known=False), symbolic(filters)
        outputs = [max_pool_2d(conv2d(x, w, border_mode), (2, 2), ignore_border)
                   for border_mode, ignore_border in itertools.product(MODES, BORDERS)]
        function = theano.function([x, w], outputs)
        for n_images in (1, 2, 300):
            more = images[numpy.arange(n_images) % 2]
            whole = function(more, filters)
            self.assertEqual([len(array) for array in whole], [n_images] * 4)
            for array, part in zip(whole, function(images, filters), strict=True):
                numpy.testing.assert_allclose(array[-1], part[(n_images - 1) % 2], atol=1e-5)

    def test_shapes_that_do_not_fit(self):
        def tensor(shape):
            return T.tensor(dtype='float32', shape=shape)

        for image, kernel, mode, message in (
                ((2, 3, 8, 8), (4, 2, 5, 5), 'valid', 'as many channels'),
                ((2, 3, 4, 8), (4, 3, 5, 5), 'valid', 'no larger filters'),
                ((2, 3, None, 8), (4, 3, 5, 5), 'valid', 'of known size'),
                ((2, 3, 8, 8), (None, 3, 5, 5), 'valid', 'of known size'),
                ((3, 8, 8), (4, 3, 5, 5), 'valid', '4 dimensions'),
                ((2, 3, 8, 8), (3, 5, 5), 'valid', '4 dimensions'),
                ((2, 3, 8, 8), (4, 3, 5, 5), 'same', "'same': give")):
            with self.assertRaisesRegex(ValueError, message):
                conv2d(tensor(image), tensor(kernel), mode)
        conv2d(tensor((2, 3, 4, 8)), tensor((4, 3, 5, 5)), 'full')
        for image, message in (((2, 3, None, 8), 'of known size'), ((3, 8, 8), '4 dimensions'),
                               ((2, 3, 8, 1), 'windows of 2 x 2 do not fit')):
            with self.assertRaisesRegex(ValueError, message):
                max_pool_2d(tensor(image), (2, 2))
        max_pool_2d(tensor((2, 3, 8, 1)), (2, 2), ignore_border=False)


class TestPooling(TestCase):
    def test_values_and_the_gradient_that_goes_to_the_first_maximum(self):
        # Small whole numbers: nearly every window has several maxima.
        rng = numpy.random.RandomState(0)
        images = rng.randint(3, size=(2, 3, 7, 10)).astype(theano.config.floatX)
        x = symbolic(images)
        for ds, ignore_border in itertools.product(((1, 1), (2, 2), (3, 4), (7, 10)), BORDERS):
            pooled = max_pool_2d(x, ds, ignore_border)
            errors = 1 + numpy.arange(numpy.prod(pooled.type.shape), dtype=x.dtype).reshape(
                pooled.type.shape)
            values, gradient = theano.function(
                [x], [pooled, T.grad(T.sum(pooled * errors), x)])(images)
            numpy.testing.assert_array_equal(values, known_pooling(images, ds, ignore_border))
            expected = numpy.zeros_like(images)
            for place, window in windows(images, ds, ignore_border):
                expected[window].flat[images[window].argmax()] = errors[place]
            numpy.testing.assert_array_equal(gradient, expected)
        larger = theano.function([x], max_pool_2d(x, (8, 16), ignore_border=False))(images)
        numpy.testing.assert_array_equal(larger[:, :, 0, 0], images.max((2, 3)))


class TestMinibatches(TestCase):
    def test_many_in_one_call(self):
        data, filters = values([(20, 63), (4, 1, 3, 2)], theano.config.floatX)
        images = engine.shared_data(data)
        index, x = T.lscalar('index'), T.matrix('x')
        w = theano.shared(filters, shape=filters.shape)
        maps = conv2d(x.reshape((5, 1, 9, 7)), w, 'full')
        output = T.sum(T.sqr(max_pool_2d(maps, (2, 2), ignore_border=False)))
        function = engine.function([index], output,
                                   givens={x: engine.minibatch(images, index, 5)})
        expected = [numpy.sum(known_pooling(known_convolution(
            batch.reshape(5, 1, 9, 7), filters, 'full'), (2, 2), False) ** 2)
            for batch in data.reshape(4, 5, 63)]
        numpy.testing.assert_allclose(function.over(range(4)), expected, rtol=1e-5)
        numpy.testing.assert_allclose([function(i) for i in range(4)], expected, rtol=1e-5)
