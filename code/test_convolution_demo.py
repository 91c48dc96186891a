"""Tests of convolution_demo."""

import math
import subprocess
import sys

from support.errors import UserError
from support.testing import CODE_FOLDER, TestCase, printed

import numpy
from PIL import Image
from scipy.signal import convolve2d

import convolution_demo


class TestEdges(TestCase):
    def edges(self, photo=None):
        with printed() as output:
            maps = convolution_demo.edges(photo, output_folder=str(self.folder / 'out'))
        self.assertIn('edges.png', output.getvalue())
        with Image.open(self.folder / 'out' / 'edges.png') as picture:
            self.assertEqual(picture.format, 'PNG')
        return maps

    def test_photo(self):
        pixels = numpy.random.RandomState(0).randint(256, size=(20, 30, 3)).astype('uint8')
        path = self.folder / 'photo.png'
        Image.fromarray(pixels).save(path)
        rng = numpy.random.RandomState(23455)
        W = rng.uniform(-1 / math.sqrt(243), 1 / math.sqrt(243), (2, 3, 9, 9))
        b = rng.uniform(-.5, .5, 2)
        activations = [b[k] + sum(convolve2d(pixels[:, :, c] / 256, W[k, c], 'valid')
                                  for c in range(3)) for k in range(2)]
        expected = 1 / (1 + numpy.exp(-numpy.array(activations)))
        numpy.testing.assert_allclose(self.edges(path), expected, rtol=1e-4)

    def test_picture_drawn_here(self):
        self.assertEqual(self.edges().shape, (2, 352, 472))

    def test_photo_of_any_kind(self):
        path = self.folder / 'large.gif'
        Image.new('L', (1280, 100)).save(path)
        self.assertEqual(self.edges(path).shape, (2, 42, 632))
        Image.new('L', (20, 8)).save(path)
        with self.assertRaisesRegex(UserError, '8 x 20 pixels: give one of at least 9 x 9'):
            self.edges(path)
        path.write_text('no image')
        with self.assertRaisesRegex(UserError, 'cannot be read as an image'):
            self.edges(path)
        with self.assertRaisesRegex(UserError, 'there is no image'):
            self.edges(self.folder / 'none.png')


class TestPooling(TestCase):
    def test_numbers(self):
        with printed():
            numbers, without_border, with_border = convolution_demo.pooling()
        expected = numpy.random.RandomState(1).rand(3, 2, 5, 5)
        numpy.testing.assert_allclose(numbers, expected, rtol=1e-6)
        for i, j in numpy.ndindex(3, 3):
            maxima = numbers[:, :, 2 * i:2 * i + 2, 2 * j:2 * j + 2].max((2, 3))
            numpy.testing.assert_array_equal(with_border[:, :, i, j], maxima)
        numpy.testing.assert_array_equal(without_border, with_border[:, :, :2, :2])

    def test_command_line(self):
        def run(*arguments):
            return subprocess.run(
                [sys.executable, '-W', 'error', CODE_FOLDER / 'convolution_demo.py', *arguments],
                cwd=self.folder, capture_output=True, text=True)

        pooling = run('pooling')
        self.assertRegex(pooling.stderr,
                         r'\AThe code for file convolution_demo.py ran for \d+\.\d\dm\n\Z')
        for line in ('With ignore_border=True:', 'maxima[0, 0] =\n[[0.7203 0.3968]\n'
                     ' [0.6852 0.8781]]', 'maxima[1, 0] =\n[[0.6788 0.5893 0.6998]'):
            self.assertIn(line, pooling.stdout)
        help_text = run('--help').stdout
        for demonstration in ('edges', 'pooling'):
            self.assertIn(demonstration, help_text)
