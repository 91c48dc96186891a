"""Tests of support.convolution."""

from unittest import mock

import numpy
import pytensor as theano
import pytensor.tensor as T
from scipy.signal import convolve2d, correlate2d

from support import convolution, engine
from support.convolution import conv2d, max_pool_2d
from support.testing import REFERENCE_MODE, TestCase, finite_difference_error, in_float64

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
    if border_mode == 'full':
        pad_h, pad_w = filters.shape[2] - 1, filters.shape[3] - 1
        padded = numpy.pad(images, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)))
        d_padded, d_filters = known_gradients(padded, filters, errors, 'valid')
        return d_padded[:, :, pad_h:pad_h + images.shape[2], pad_w:pad_w + images.shape[3]], \
            d_filters
    d_images, d_filters = numpy.zeros_like(images), numpy.zeros_like(filters)
    for n, image in enumerate(images):
        for o, kernel in enumerate(filters):
            for c in range(len(image)):
                d_images[n, c] += correlate2d(errors[n, o], kernel[c], 'full')
                d_filters[o, c] += correlate2d(image[c], errors[n, o], 'valid')[::-1, ::-1]
    return d_images, d_filters


def known_pooling(images, ds, ignore_border):
    """A plain loop over windows."""
    n, c, height, width = images.shape
    rows, columns = (size // d if ignore_border else -(-size // d)
                     for size, d in zip((height, width), ds, strict=True))
    maxima = numpy.empty((n, c, rows, columns), images.dtype)
    for i in range(rows):
        for j in range(columns):
            window = images[:, :, i * ds[0]:(i + 1) * ds[0], j * ds[1]:(j + 1) * ds[1]]
            maxima[:, :, i, j] = window.max((2, 3))
    return maxima


def symbolic(array, batch_is_known=True):
    shape = array.shape if batch_is_known else (None, *array.shape[1:])
    return T.tensor(dtype=array.dtype, shape=shape)


class TestConvolution(TestCase):
    def test_values_and_gradients(self):
        # In the mode of the scripts, and in their precision.
        for shapes in SHAPES:
            for border_mode in ('valid', 'full'):
                with self.subTest(shapes=shapes, border_mode=border_mode):
                    self.check(shapes, border_mode)

    def test_library(self):
        if engine.mode_name() != 'JAX':
            self.skipTest('the library is used in JAX mode')
        with mock.patch('support.convolution._is_on_gpu', return_value=True):
            for shapes in SHAPES[:3]:
                for border_mode in ('valid', 'full'):
                    self.check(shapes, border_mode)

    def check(self, shapes, border_mode):
        images, filters = values(shapes, theano.config.floatX)
        x, w = symbolic(images), symbolic(filters)
        output = conv2d(x, w, border_mode)
        expected = known_convolution(images, filters, border_mode)
        self.assertEqual(output.type.shape, expected.shape)
        errors, = values([expected.shape], theano.config.floatX, seed=1)
        function = theano.function([x, w], [output, *T.grad(T.sum(output * errors), [x, w])])
        got = function(images, filters)
        for array, known in zip(got, [expected, *known_gradients(images, filters, errors,
                                                                 border_mode)], strict=True):
            self.assertLess(abs(numpy.asarray(array) - known).max(), 1e-5 * abs(known).max())

    def test_finite_differences(self):
        with in_float64():
            for shapes in SHAPES[:3]:
                for border_mode in ('valid', 'full'):
                    x, w = (theano.shared(array, shape=array.shape) for array in values(shapes))
                    cost = T.sum(T.tanh(conv2d(x, w, border_mode)))
                    self.assertLess(finite_difference_error(cost, [x, w]), 1e-6)

    def test_every_block_gives_the_same(self):
        images, filters = values(SHAPES[1])
        x, w = symbolic(images), symbolic(filters)
        expected = known_convolution(images, filters, 'valid')
        for block in ((1, 1), (1, 9), (7, 1), (2, 3), (3, 2), (8, 8)):
            with mock.patch('support.convolution._best_block', return_value=block):
                function = theano.function([x, w], conv2d(x, w), mode=REFERENCE_MODE)
            numpy.testing.assert_allclose(function(images, filters), expected, atol=1e-12)

    def test_blocks_of_lenet_waste_little(self):
        for output_sizes, n_filters in (((24, 24), 20), ((8, 8), 50)):
            block = convolution._best_block(output_sizes, (5, 5), n_filters)
            counts, patch = convolution._division(output_sizes, (5, 5), block)
            self.assertEqual([n * b for n, b in zip(counts, block, strict=True)],
                             list(output_sizes))
            multiplications = numpy.prod([*counts, *patch, *block])
            self.assertLess(multiplications, 2 * 25 * numpy.prod(output_sizes))

    def test_any_number_of_images(self):
        images, filters = values(SHAPES[1], theano.config.floatX)
        x, w = symbolic(images, batch_is_known=False), symbolic(filters)
        outputs = [max_pool_2d(conv2d(x, w, border_mode), (2, 2), ignore_border)
                   for border_mode in ('valid', 'full') for ignore_border in (True, False)]
        function = theano.function([x, w], outputs)
        for n_images in (1, 2, 300):
            more = images[numpy.arange(n_images) % 2]
            whole = function(more, filters)
            self.assertEqual([len(array) for array in whole], [n_images] * 4)
            for array, part in zip(whole, function(images, filters), strict=True):
                numpy.testing.assert_allclose(array[-1], part[(n_images - 1) % 2], atol=1e-5)

    def test_shapes_that_do_not_fit(self):
        def tensor(*shape):
            return T.tensor(dtype='float32', shape=shape)

        for image, kernel, mode, message in (
                ((2, 3, 8, 8), (4, 2, 5, 5), 'valid', '3 channels, but the filters 2'),
                ((2, 3, 4, 8), (4, 3, 5, 5), 'valid', '5 x 5 do not fit into images of 4 x 8'),
                ((2, 3, None, 8), (4, 3, 5, 5), 'valid', 'shape of input of conv2d is not known'),
                ((2, 3, 8, 8), (None, 3, 5, 5), 'valid', 'shape of filters of conv2d is not'),
                ((3, 8, 8), (4, 3, 5, 5), 'valid', 'input of conv2d has 3 dimensions'),
                ((2, 3, 8, 8), (3, 5, 5), 'valid', 'filters of conv2d has 3 dimensions'),
                ((2, 3, 8, 8), (4, 3, 5, 5), 'same', "'same', but has to be one of")):
            with self.assertRaisesRegex(ValueError, message):
                conv2d(tensor(*image), tensor(*kernel), mode)
        conv2d(tensor(2, 3, 4, 8), tensor(4, 3, 5, 5), 'full')
        for image, ds, ignore_border, message in (
                ((2, 3, None, 8), (2, 2), True, 'of known size'),
                ((3, 8, 8), (2, 2), True, 'of known size'),
                ((2, 3, 8, 8), (2, 0), True, 'at least 1'),
                ((2, 3, 8, 8), (2,), True, 'at least 1'),
                ((2, 3, 8, 1), (2, 2), True, 'windows of 2 x 2 do not fit into images of 8 x 1')):
            with self.assertRaisesRegex(ValueError, message):
                max_pool_2d(tensor(*image), ds, ignore_border)
        max_pool_2d(tensor(2, 3, 8, 1), (2, 2), ignore_border=False)


class TestPooling(TestCase):
    def test_values(self):
        images, = values([(2, 3, 7, 10)], theano.config.floatX)
        x = symbolic(images)
        for ds in ((1, 1), (2, 2), (3, 4), (7, 10), (2, 5)):
            for ignore_border in (True, False):
                function = theano.function([x], max_pool_2d(x, ds, ignore_border))
                numpy.testing.assert_array_equal(function(images),
                                                 known_pooling(images, ds, ignore_border))
        function = theano.function([x], max_pool_2d(x, (8, 16), False))
        numpy.testing.assert_array_equal(function(images)[:, :, 0, 0], images.max((2, 3)))

    def test_gradient_goes_to_the_first_maximum(self):
        # Small whole numbers: nearly every window has several maxima.
        rng = numpy.random.RandomState(0)
        images = rng.randint(3, size=(2, 3, 7, 8)).astype(theano.config.floatX)
        x = symbolic(images)
        for ds in ((2, 2), (3, 3)):
            for ignore_border in (True, False):
                pooled = max_pool_2d(x, ds, ignore_border)
                errors = 1 + numpy.arange(numpy.prod(pooled.type.shape), dtype=x.dtype).reshape(
                    pooled.type.shape)
                got = theano.function([x], T.grad(T.sum(pooled * errors), x))(images)
                expected = numpy.zeros_like(images)
                for n, c, i, j in numpy.ndindex(*errors.shape):
                    window = images[n, c, i * ds[0]:(i + 1) * ds[0], j * ds[1]:(j + 1) * ds[1]]
                    row, column = numpy.unravel_index(window.argmax(), window.shape)
                    expected[n, c, i * ds[0] + row, j * ds[1] + column] = errors[n, c, i, j]
                numpy.testing.assert_array_equal(got, expected)

    def test_finite_differences(self):
        with in_float64():
            for ignore_border in (True, False):
                x = theano.shared(values([(2, 2, 5, 7)])[0], shape=(2, 2, 5, 7))
                cost = T.sum(T.sqr(max_pool_2d(x, (2, 3), ignore_border)))
                self.assertLess(finite_difference_error(cost, [x]), 1e-6)


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
            data[5 * i:5 * i + 5].reshape(5, 1, 9, 7), filters, 'full'), (2, 2), False) ** 2)
            for i in range(4)]
        numpy.testing.assert_allclose(function.over(range(4)), expected, rtol=1e-5)
        numpy.testing.assert_allclose([function(i) for i in range(4)], expected, rtol=1e-5)
