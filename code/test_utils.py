"""Tests of the pictures: small arrays whose tiles were worked out by hand."""

import os
import tempfile
import unittest
import warnings
from pathlib import Path
from unittest import mock

import numpy
from PIL import Image

from support.errors import UserError
from utils import save_filters, save_picture, scale_to_unit_interval, tile_raster_images


class PictureTest(unittest.TestCase):
    def setUp(self):
        self.enterContext(warnings.catch_warnings())
        warnings.simplefilter('error')

    def equal(self, array, wanted, dtype):
        """The same numbers, exactly, and the same shape; of the type `dtype`."""
        self.assertEqual(array.dtype, dtype)
        numpy.testing.assert_array_equal(array, wanted)
        self.assertEqual(array.shape, numpy.shape(wanted))

    def fails(self, message, *arguments, **keywords):
        """Tiling is refused with exactly this message, in one line."""
        with self.assertRaises(UserError) as caught:
            tile_raster_images(*arguments, **keywords)
        self.assertEqual(str(caught.exception), message)
        self.assertNotIn('\n', message)


class ScaleTest(PictureTest):
    def test_values(self):
        self.equal(scale_to_unit_interval(numpy.array([-1., 0., 2.]), eps=1), [0, .25, .75],
                   numpy.float64)
        self.equal(scale_to_unit_interval(numpy.array([[-4., -4.], [-3., -2.]]), eps=0),
                   [[0, 0], [.5, 1]], numpy.float64)
        self.equal(scale_to_unit_interval(numpy.array([5., 7.])), [0, 2 / (2 + 1e-8)],
                   numpy.float64)

    def test_types(self):
        for dtype, wanted in (('float32', 'float32'), ('float64', 'float64'), ('uint8', 'float32'),
                              ('int64', 'float64'), ('float16', 'float32')):
            scaled = scale_to_unit_interval(numpy.array([3, 4, 7], dtype), eps=0)
            self.equal(scaled, [0, .25, 1], wanted)
        self.equal(scale_to_unit_interval(numpy.array([-128, 127], numpy.int8), eps=0), [0, 1],
                   numpy.float32)
        self.equal(scale_to_unit_interval(numpy.array([True, False]), eps=0), [1, 0],
                   numpy.float32)

    def test_equal_values_are_zero(self):
        for dtype in (numpy.float16, numpy.float32, numpy.float64, numpy.int32, numpy.uint8):
            scaled = scale_to_unit_interval(numpy.full((2, 2), 9, dtype))
            numpy.testing.assert_array_equal(scaled, numpy.zeros((2, 2)))

    def test_input_is_untouched(self):
        for dtype in (numpy.float32, numpy.float64, numpy.int64):
            values = numpy.array([1, 2, 3], dtype)
            values.flags.writeable = False
            self.assertFalse(numpy.shares_memory(scale_to_unit_interval(values), values))
            self.equal(values, [1, 2, 3], dtype)


class GreyTest(PictureTest):
    # Six images of one row of two pixels, in [0, 1]: as pixels 0 255, 51 102 and so on. Half a grey
    # level more, so that the rounding error of the division does not count.
    X = (numpy.array([[0, 254.5], [51, 102], [1, 2], [3, 4], [5, 6], [7, 8]]) + .5) / 255

    def test_order_of_the_tiles(self):
        tiles = tile_raster_images(self.X, (1, 2), (2, 3), scale_rows_to_unit_interval=False)
        self.equal(tiles, [[0, 255, 51, 102, 1, 2],
                           [3, 4, 5, 6, 7, 8]], numpy.uint8)

    def test_order_within_a_tile(self):
        tiles = tile_raster_images(self.X.reshape(2, 6), (3, 2), (1, 2),
                                   scale_rows_to_unit_interval=False)
        self.equal(tiles, [[0, 255, 3, 4],
                           [51, 102, 5, 6],
                           [1, 2, 7, 8]], numpy.uint8)

    def test_spacing(self):
        tiles = tile_raster_images(self.X, (1, 2), (2, 3), (2, 1), False)
        self.equal(tiles, [[0, 255, 0, 51, 102, 0, 1, 2],
                           [0, 0, 0, 0, 0, 0, 0, 0],
                           [0, 0, 0, 0, 0, 0, 0, 0],
                           [3, 4, 0, 5, 6, 0, 7, 8]], numpy.uint8)
        self.assertEqual(tile_raster_images(self.X, (2, 1), (3, 2), (0, 4)).shape, (6, 6))

    def test_too_few_images(self):
        tiles = tile_raster_images(self.X[1:3], (1, 2), (2, 2), (1, 0), False)
        self.equal(tiles, [[51, 102, 1, 2],
                           [0, 0, 0, 0],
                           [0, 0, 0, 0]], numpy.uint8)
        self.equal(tile_raster_images(self.X[:0], (1, 2), (2, 1)), [[0, 0], [0, 0]], numpy.uint8)

    def test_too_many_images(self):
        tiles = tile_raster_images(self.X, (1, 2), (2, 1), (1, 1), False)
        self.equal(tiles, [[0, 255],
                           [0, 0],
                           [51, 102]], numpy.uint8)

    def test_each_row_is_scaled_for_itself(self):
        X = numpy.array([[-1, 1, 0, -.5], [10, 30, 50, 20]], numpy.float32)
        tiles = tile_raster_images(X, (2, 2), (1, 2), (0, 1))
        self.equal(tiles, [[0, 255, 0, 0, 127],
                           [127, 63, 0, 255, 63]], numpy.uint8)

    def test_pixels_are_rounded_down(self):
        # In float64 eps counts: the brightest is 255 * 2 / (2 + 1e-8), just below 255.
        self.equal(tile_raster_images(numpy.array([[1., 3., 2.]]), (1, 3), (1, 1)),
                   [[0, 254, 127]], numpy.uint8)
        self.equal(tile_raster_images(numpy.array([[.5, .999, 1.]]), (1, 3), (1, 1),
                                      scale_rows_to_unit_interval=False),
                   [[127, 254, 255]], numpy.uint8)

    def test_equal_values_are_black(self):
        for dtype in (numpy.float16, numpy.float32, numpy.float64, numpy.int64):
            for value in (-3, 0, 7):
                tiles = tile_raster_images(numpy.full((1, 2), value, dtype), (1, 2), (1, 1))
                self.equal(tiles, [[0, 0]], numpy.uint8)

    def test_floats_out(self):
        for dtype in (numpy.float16, numpy.float32, numpy.float64):
            X = numpy.array([[-2, 6], [.5, 3]], dtype)
            tiles = tile_raster_images(X, (1, 2), (2, 1), (1, 0), False, False)
            self.equal(tiles, [[-2, 6], [0, 0], [.5, 3]], dtype)
            tiles = tile_raster_images(X, (2, 1), (1, 2), output_pixel_vals=False)
            one = numpy.array([8 / (8 + 1e-8), 2.5 / (2.5 + 1e-8)]).astype(dtype)
            self.equal(tiles, [[0, 0], one], dtype)

    def test_integers(self):
        for dtype, scaled in ((numpy.int8, numpy.float32), (numpy.uint8, numpy.float32),
                              (numpy.int64, numpy.float64), (bool, numpy.float32)):
            X = numpy.array([[0, 1], [1, 0]], dtype)
            for scale in (False, True):
                brightest = 254 if scale and scaled == numpy.float64 else 255
                tiles = tile_raster_images(X, (1, 2), (2, 1), (0, 0), scale)
                self.equal(tiles, [[0, brightest], [brightest, 0]], numpy.uint8)
            tiles = tile_raster_images(X, (1, 2), (2, 1), (0, 0), False, False)
            self.equal(tiles, X, dtype)
            tiles = tile_raster_images(X, (1, 2), (2, 1), output_pixel_vals=False)
            one = scaled(1) / scaled(1 + 1e-8)
            self.equal(tiles, [[0, one], [one, 0]], scaled)
        tiles = tile_raster_images(numpy.array([[0, 50, 200]], numpy.uint8), (1, 3), (1, 1))
        self.equal(tiles, [[0, 63, 255]], numpy.uint8)

    def test_what_lies_outside_is_cut_off(self):
        X = numpy.array([[-.5, 1.5, -numpy.inf, numpy.inf, numpy.nan, .2001]])
        for dtype in (numpy.float32, numpy.float64):
            tiles = tile_raster_images(X.astype(dtype), (2, 3), (1, 1), (0, 0), False)
            self.equal(tiles, [[0, 255, 0], [255, 0, 51]], numpy.uint8)
        integers = tile_raster_images(numpy.array([[-7, 300]]), (1, 2), (1, 1), (0, 0), False)
        self.equal(integers, [[0, 255]], numpy.uint8)

    def test_diverged_weights_spoil_their_tile_alone(self):
        X = numpy.array([[numpy.nan, 1], [0, numpy.inf], [-3e38, 3e38], [0, 1]], numpy.float32)
        self.equal(tile_raster_images(X, (1, 2), (1, 4)), [[0, 0, 0, 0, 0, 0, 0, 255]],
                   numpy.uint8)

    def test_input_is_untouched(self):
        X = numpy.array([[3., 4.], [7., 5.]])
        X.flags.writeable = False
        for scale in (False, True):
            for pixels in (False, True):
                tiles = tile_raster_images(X, (1, 2), (1, 2), (0, 0), scale, pixels)
                self.assertFalse(numpy.shares_memory(tiles, X))
        self.equal(X, [[3, 4], [7, 5]], numpy.float64)

    def test_ten_by_ten_filters(self):
        X = numpy.repeat(numpy.arange(1., 101.)[:, None], 784, axis=1)
        tiles = tile_raster_images(X, (28, 28), (10, 10), (1, 1), False, False)
        self.assertEqual(tiles.shape, (289, 289))
        for i in range(100):
            top, left = 29 * (i // 10), 29 * (i % 10)
            self.assertTrue((tiles[top:top + 28, left:left + 28] == i + 1).all())
        gaps = numpy.arange(28, 288, 29)
        self.assertEqual(len(gaps), 9)
        self.assertFalse(tiles[gaps].any() or tiles[:, gaps].any())

    def test_errors(self):
        X = numpy.zeros((3, 6))
        self.fails('X has rows of 6 values, but an image of 2 x 4 has 8: make them equal.',
                   X, (2, 4), (1, 3))
        self.fails('X is an array of float64 of shape (6,): give numbers of shape (n_images, 6).',
                   X[0], (2, 3), (1, 3))
        self.fails('X is an array of float64 of shape (3, 2, 3): give numbers of shape '
                   '(n_images, 6).', X.reshape(3, 2, 3), (2, 3), (1, 3))
        self.fails('X is an array of complex128 of shape (3, 6): give numbers of shape '
                   '(n_images, 6).', X.astype(complex), (2, 3), (1, 3))
        self.fails('img_shape is (0, 6): give two whole numbers, at least 1.', X, (0, 6), (1, 3))
        self.fails('img_shape is (6,): give two whole numbers, at least 1.', X, (6,), (1, 3))
        self.fails('tile_shape is (3, 0): give two whole numbers, at least 1.', X, (2, 3), (3, 0))
        self.fails('tile_spacing is (0, -1): give two whole numbers, at least 0.',
                   X, (2, 3), (1, 3), (0, -1))


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
                           [[255, 0, 0, 0], [0, 0, 255, 255]]], numpy.uint8)

    def test_missing_colours_are_black_and_missing_alpha_is_opaque(self):
        tiles = tile_raster_images((None, self.BLUE, None, None), (1, 2), (2, 1), (1, 0), False)
        self.equal(tiles, [[[0, 0, 0, 255], [0, 127, 0, 255]],
                           [[0, 0, 0, 255], [0, 0, 0, 255]],
                           [[0, 127, 0, 255], [0, 255, 0, 255]]], numpy.uint8)
        tiles = tile_raster_images((None, None, None, self.BLUE), (1, 2), (1, 1), (0, 0), False)
        self.equal(tiles, [[[0, 0, 0, 0], [0, 0, 0, 127]]], numpy.uint8)
        tiles = tile_raster_images((self.RED, None, None, None), (1, 2), (1, 3))
        self.equal(tiles[0, :, 0], [0, 255, 255, 0, 0, 0], numpy.uint8)
        self.equal(tiles[0, :, 3], [255] * 6, numpy.uint8)

    def test_floats_out(self):
        tiles = tile_raster_images((None, self.GREEN, self.BLUE, None), (1, 2), (2, 1), (0, 0),
                                   False, False)
        self.equal(tiles, [[[0, 2, 0, 1], [0, 4, .5, 1]],
                           [[0, 4, .5, 1], [0, 4, 1, 1]]], numpy.float32)
        mixed = (None, self.GREEN, self.BLUE.astype(numpy.float64), None)
        tiles = tile_raster_images(mixed, (1, 2), (1, 1), output_pixel_vals=False)
        self.equal(tiles, [[[0, 0, 0, 1], [0, 1, .5 / (.5 + 1e-8), 1]]], numpy.float64)

    def test_grey_pictures_agree(self):
        X = numpy.random.RandomState(1).randn(5, 12)
        grey = tile_raster_images(X, (3, 4), (2, 3), (1, 2))
        colour = tile_raster_images((X, X, X, None), (3, 4), (2, 3), (1, 2))
        self.equal(colour[..., :3], numpy.stack([grey] * 3, axis=-1), numpy.uint8)
        self.assertGreater(len(numpy.unique(grey)), 30)

    def test_input_is_untouched(self):
        X = self.RED.copy()
        X.flags.writeable = False
        tile_raster_images((X, X, X, X), (1, 2), (1, 2))
        self.equal(X, [[0, 1], [1, 0]], numpy.float32)

    def test_errors(self):
        x = self.RED
        self.fails('X is a tuple of 0 arrays and 4 None: give four channels (red, green, blue, '
                   'alpha), at least one of them an array.', (None,) * 4, (1, 2), (2, 1))
        self.fails('X is a tuple of 3 arrays and 0 None: give four channels (red, green, blue, '
                   'alpha), at least one of them an array.', (x, x, x), (1, 2), (2, 1))
        self.fails('the channels of X have the shapes (2, 2), (1, 2), (2, 2): make them equal.',
                   (x, x[:1], None, x), (1, 2), (2, 1))
        self.fails('X has rows of 2 values, but an image of 1 x 3 has 3: make them equal.',
                   (None, x, x, None), (1, 3), (2, 1))
        self.fails('X is an array of float32 of shape (2,): give numbers of shape (n_images, 2).',
                   (x[0], None, None, None), (1, 2), (2, 1))


class FileTest(PictureTest):
    def setUp(self):
        super().setUp()
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.path = self.folder / 'filters.png'

    def pixels(self):
        with Image.open(self.path) as image:
            self.assertEqual(image.format, 'PNG')
            return image.mode, numpy.array(image)

    def files(self):
        return [path.name for path in self.folder.iterdir()]

    def test_filters_are_columns(self):
        W = numpy.array([[0, 4, 1], [1, 2, 1], [.5, 0, 1], [0, 4, 1]], numpy.float32)
        save_filters(str(self.path), W, (2, 2), (1, 4))
        mode, pixels = self.pixels()
        self.assertEqual(mode, 'L')
        self.equal(pixels, [[0, 255, 0, 255, 127, 0, 0, 0, 0, 0, 0],
                            [127, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0]], numpy.uint8)
        self.assertEqual(self.files(), ['filters.png'])

    def test_ten_by_ten(self):
        W = numpy.zeros((784, 500), numpy.float32)
        W[numpy.arange(500), numpy.arange(500)] = 1  # filter i has its pixel i lit
        W[:, 100:] = numpy.nan  # not to be seen
        save_filters(self.path, W, (28, 28))
        wanted = numpy.zeros((289, 289), numpy.uint8)
        for i in range(100):
            wanted[29 * (i // 10) + i // 28, 29 * (i % 10) + i % 28] = 255
        self.equal(self.pixels()[1], wanted, numpy.uint8)

    def test_colours_survive(self):
        colours = numpy.arange(24, dtype=numpy.uint8).reshape(2, 3, 4)
        save_picture(self.path, colours)
        mode, pixels = self.pixels()
        self.assertEqual(mode, 'RGBA')
        self.equal(pixels, colours, numpy.uint8)

    def test_wrong_shapes(self):
        for W in (numpy.zeros((5, 3)), numpy.zeros(4)):
            with self.assertRaises(UserError):
                save_filters(self.path, W, (2, 2))
        self.assertEqual(self.files(), [])

    def test_a_picture_that_fails_leaves_the_old_one(self):
        def breaks_off(image, file, format):
            file.write(b'half a picture')
            raise OSError('the disk is full')

        save_filters(self.path, numpy.eye(4), (2, 2))
        before = self.path.read_bytes()
        with mock.patch.object(Image.Image, 'save', breaks_off):
            with self.assertRaisesRegex(OSError, 'the disk is full'):
                save_filters(self.path, numpy.ones((4, 4)), (2, 2))
        self.assertEqual(self.path.read_bytes(), before)
        self.assertEqual(self.files(), ['filters.png'])

    def test_the_name_is_given_to_a_complete_file_in_one_step(self):
        replaced = []

        def replace(part, path):
            with Image.open(part) as image:
                replaced.append((Path(part).parent, path, image.size, os.path.exists(path)))
            real(part, path)

        real = os.replace
        with mock.patch.object(os, 'replace', replace):
            save_filters(self.path, numpy.eye(4), (2, 2))
        self.assertEqual(replaced, [(self.folder, self.path, (29, 29), False)])
        self.assertEqual(self.pixels()[1].shape, (29, 29))


if __name__ == '__main__':
    unittest.main()
