"""Tests of the pictures: small arrays whose tiles were worked out by hand."""

import os
from pathlib import Path
from unittest import mock

from support.errors import UserError
from support.testing import TestCase
from support.tiles import save_filters, save_picture, scale_to_unit_interval, tile_raster_images

import numpy
from PIL import Image

FLOATS = (numpy.float16, numpy.float32, numpy.float64)
UNSCALED = {'scale_rows_to_unit_interval': False}


class PictureTest(TestCase):
    def equal(self, array, wanted, dtype=numpy.uint8):
        """The same numbers, exactly, and the same shape; of the type `dtype`."""
        self.assertEqual((array.dtype, array.shape), (dtype, numpy.shape(wanted)))
        numpy.testing.assert_array_equal(array, wanted)

    def fails(self, message, *arguments):
        with self.assertRaisesRegex(UserError, rf'\A`X` is {message}.*\Z'):
            tile_raster_images(*arguments)


class ScaleTest(PictureTest):
    def test_values_and_types(self):
        for values, eps, wanted, dtype in (
                ([-1., 0., 2.], 1, [0, .25, .75], 'float64'),
                ([[-4., -4.], [-3., -2.]], 0, [[0, 0], [.5, 1]], 'float64'),
                ([5., 7.], 1e-8, [0, 2 / (2 + 1e-8)], 'float64'),
                (numpy.array([3, 4, 7], 'float32'), 0, [0, .25, 1], 'float32'),
                (numpy.array([3, 4, 7], 'float16'), 0, [0, .25, 1], 'float32'),
                (numpy.array([3, 4, 7], 'int64'), 0, [0, .25, 1], 'float64'),
                (numpy.array([3, 4, 7], 'uint8'), 0, [0, .25, 1], 'float32'),
                (numpy.array([-128, 127], 'int8'), 0, [0, 1], 'float32'),
                (numpy.array([True, False]), 0, [1, 0], 'float32'),
                (numpy.full(2, 9, 'float16'), 1e-8, [0, 0], 'float32'),
                (numpy.full(2, 9, 'int32'), 1e-8, [0, 0], 'float64')):
            array = numpy.array(values)
            array.flags.writeable = False  # the input is untouched
            scaled = scale_to_unit_interval(array, eps)
            self.equal(scaled, wanted, dtype)
            self.assertFalse(numpy.shares_memory(scaled, array))


class GreyTest(PictureTest):
    # Six images of one row of two pixels, in [0, 1]: as pixels 0 255, 51 102 and so on. Half a grey
    # level more, so that the rounding error of the division does not count.
    X = (numpy.array([[0, 254.5], [51, 102], [1, 2], [3, 4], [5, 6], [7, 8]]) + .5) / 255

    def test_places(self):
        for X, img_shape, tile_shape, spacing, wanted in (
                (self.X, (1, 2), (2, 3), (0, 0), [[0, 255, 51, 102, 1, 2],
                                                  [3, 4, 5, 6, 7, 8]]),
                (self.X.reshape(2, 6), (3, 2), (1, 2), (0, 0), [[0, 255, 3, 4],
                                                                [51, 102, 5, 6],
                                                                [1, 2, 7, 8]]),
                (self.X, (1, 2), (2, 3), (2, 1), [[0, 255, 0, 51, 102, 0, 1, 2],
                                                  [0, 0, 0, 0, 0, 0, 0, 0],
                                                  [0, 0, 0, 0, 0, 0, 0, 0],
                                                  [3, 4, 0, 5, 6, 0, 7, 8]]),
                # Too few images, none at all, too many.
                (self.X[1:3], (1, 2), (2, 2), (1, 0), [[51, 102, 1, 2], [0] * 4, [0] * 4]),
                (self.X[:0], (1, 2), (2, 1), (0, 0), [[0, 0], [0, 0]]),
                (self.X, (1, 2), (2, 1), (1, 1), [[0, 255], [0, 0], [51, 102]])):
            self.equal(tile_raster_images(X, img_shape, tile_shape, spacing, **UNSCALED), wanted)

    def test_pixels(self):
        nan, inf = numpy.nan, numpy.inf
        for X, scale, wanted in (
                # Each row is scaled for itself.
                (numpy.array([[-1, 1, 0, -.5], [10, 30, 50, 20]], 'float32'), True,
                 [[0, 255, 127, 63], [0, 127, 255, 63]]),
                # They are rounded down. In float64 eps counts: 255 * 2 / (2 + 1e-8) is below 255.
                ([[1., 3., 2.]], True, [[0, 254, 127]]),
                ([[.5, .999, 1.]], False, [[127, 254, 255]]),
                # What lies outside is cut off; weights that have diverged spoil their row alone.
                ([[-.5, 1.5, -inf, inf, nan, .2001]], False, [[0, 255, 0, 255, 0, 51]]),
                ([[-7, 300]], False, [[0, 255]]),
                (numpy.array([[nan, 1], [0, inf], [-3e38, 3e38], [0, 1]], 'float32'), True,
                 [[0, 0], [0, 0], [0, 0], [0, 255]]),
                (numpy.array([[0, 50, 200]], 'uint8'), True, [[0, 63, 255]]),
                *[(numpy.full((1, 2), 7, dtype), True, [[0, 0]]) for dtype in (*FLOATS, int)],
                *[(numpy.array([[0, 1]], dtype), scale, [[0, 255]])
                  for dtype in ('int8', bool) for scale in (False, True)]):
            X = numpy.array(X)
            X.flags.writeable = False  # the input is untouched
            tiles = tile_raster_images(X, (1, X.shape[1]), (len(X), 1), (0, 0), scale)
            self.equal(tiles, wanted)

    def test_values_out(self):
        for dtype, scaled in (*zip(FLOATS, FLOATS, strict=True), ('int8', 'float32'),
                              ('uint8', 'float32'), ('int64', 'float64'), (bool, 'float32')):
            X = numpy.array([[0, 1], [1, 0]], dtype)
            self.equal(tile_raster_images(X, (1, 2), (2, 1), (1, 0), False, False),
                       [[0, 1], [0, 0], [1, 0]], dtype)
            one = numpy.array(1 / (1 + 1e-8), scaled)
            self.equal(tile_raster_images(X, (2, 1), (1, 2), output_pixel_vals=False),
                       [[0, one], [one, 0]], scaled)

    def test_errors(self):
        X = numpy.zeros((3, 6))
        for x, message in ((X[:, :5], r'float64 of shape \(3, 5\): .* \(n_images, 6\)'),
                           (X[0], r'float64 of shape \(6,\)'),
                           (X.reshape(3, 2, 3), r'float64 of shape \(3, 2, 3\)'),
                           (X.astype(complex), 'complex128 of')):
            self.fails(message, x, (2, 3), (1, 3))
            self.fails(message, (None, x, x, None), (2, 3), (1, 3))
        for channels, message in (((None,) * 4, 'a tuple of 4 channels'),
                                  ((X, X, X), 'a tuple of 3 channels'),
                                  ((X, X[:1], None, X), r'.*\(1, 6\).*: give red')):
            self.fails(message, channels, (2, 3), (1, 3))
        for shapes in (((2, 0), (1, 3)), ((2, 3), (-1, 3)), ((2, 3), (1, 3), (-1, 0))):
            with self.assertRaisesRegex(UserError, 'has to be from'):
                tile_raster_images(X, *shapes)


class ColourTest(PictureTest):
    # Two images of one pixel each: in float32, so that the brightest is 255 when scaled.
    RED, GREEN, BLUE, ALPHA = (
        numpy.array(channel, numpy.float32) for channel in
        ([[0, 1], [1, 0]], [[2, 4], [4, 4]], [[0, .5], [.5, 1]], [[9, 8], [1, 3]])
    )

    def test_four_channels(self):
        tiles = tile_raster_images((self.RED, self.GREEN, self.BLUE, self.ALPHA), (1, 2), (2, 1),
                                   (1, 0))
        self.equal(tiles, [[[0, 0, 0, 255], [255, 255, 255, 0]],
                           [[0, 0, 0, 0], [0, 0, 0, 0]],
                           [[255, 0, 0, 0], [0, 0, 255, 255]]])

    def test_missing_colours_are_black_and_missing_alpha_is_opaque(self):
        tiles = tile_raster_images((None, self.BLUE, None, None), (1, 2), (2, 1), (1, 0), False)
        self.equal(tiles, [[[0, 0, 0, 255], [0, 127, 0, 255]],
                           [[0, 0, 0, 255], [0, 0, 0, 255]],
                           [[0, 127, 0, 255], [0, 255, 0, 255]]])
        tiles = tile_raster_images((None, None, None, self.BLUE), (1, 2), (1, 1), (0, 0), False)
        self.equal(tiles, [[[0, 0, 0, 0], [0, 0, 0, 127]]])
        tiles = tile_raster_images((None, self.GREEN, self.BLUE, None), (1, 2), (2, 1), (0, 0),
                                   False, False)
        self.equal(tiles, [[[0, 2, 0, 1], [0, 4, .5, 1]],
                           [[0, 4, .5, 1], [0, 4, 1, 1]]], numpy.float32)


class FileTest(PictureTest):
    def setUp(self):
        super().setUp()
        self.path = self.folder / 'filters.png'

    def pixels(self):
        with Image.open(self.path) as image:
            self.assertEqual(image.format, 'PNG')
            return numpy.array(image)

    def test_filters_are_columns(self):
        W = numpy.array([[0, 4, 1], [1, 2, 1], [.5, 0, 1], [0, 4, 1]], numpy.float32)
        save_filters(str(self.path), W, (2, 2), (1, 4))
        self.equal(self.pixels(), [[0, 255, 0, 255, 127, 0, 0, 0, 0, 0, 0],
                                   [127, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0]])
        colours = numpy.arange(24, dtype=numpy.uint8).reshape(2, 3, 4)
        save_picture(self.path, colours)
        self.equal(self.pixels(), colours)
        self.assertEqual(os.listdir(self.folder), ['filters.png'])

    def test_ten_by_ten(self):
        W = numpy.zeros((784, 500), numpy.float32)
        W[numpy.arange(500), numpy.arange(500)] = 1  # filter i has its pixel i lit
        W[:, 100:] = numpy.nan  # not to be seen
        save_filters(self.path, W, (28, 28))
        wanted = numpy.zeros((289, 289), numpy.uint8)
        for i in range(100):
            wanted[29 * (i // 10) + i // 28, 29 * (i % 10) + i % 28] = 255
        self.equal(self.pixels(), wanted)

    def test_there_is_never_half_a_picture(self):
        def breaks_off(image, file, format):
            file.write(b'half a picture')
            self.assertEqual(Path(self.path).read_bytes(), before)
            raise OSError('the disk is full')

        save_filters(self.path, numpy.eye(4), (2, 2))
        before = self.path.read_bytes()
        with mock.patch.object(Image.Image, 'save', breaks_off), \
                self.assertRaisesRegex(OSError, 'the disk is full'):
            save_filters(self.path, numpy.ones((4, 4)), (2, 2))
        with self.assertRaises(UserError):
            save_filters(self.path, numpy.zeros((5, 3)), (2, 2))
        self.assertEqual(self.path.read_bytes(), before)
        self.assertEqual(os.listdir(self.folder), ['filters.png'])
