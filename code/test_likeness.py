"""Tests of likeness: what is like the training images is told from what is not."""

from support import datasets, engine, likeness
from support.checkpoints import load_arrays, save_arrays
from support.errors import UserError
from support.folders import OutputFolder
from support.testing import TestCase

import numpy


class TestLikeness(TestCase):
    def test_distances_are_what_the_components_leave_unexplained(self):
        rng = numpy.random.RandomState(0)
        images = rng.rand(300, 20) * numpy.linspace(.2, 1, 20)
        known = likeness.measured(images, images)
        # In 20 dimensions, 20 components explain everything.
        self.assertLess(known.distances(rng.rand(5, 20)).max(), 1e-5)
        known.components = known.components[:3]
        # The same by eigenvectors of the covariance and least squares.
        _, vectors = numpy.linalg.eigh(numpy.cov(images.T))
        rest = (rng.rand(5, 20) - images.mean(axis=0)).T
        left = rest - vectors[:, -3:] @ numpy.linalg.lstsq(vectors[:, -3:], rest, rcond=None)[0]
        numpy.testing.assert_allclose(known.distances(rest.T + images.mean(axis=0)),
                                      numpy.linalg.norm(left, axis=0), rtol=1e-4)

    def test_digits(self):
        data = datasets.read('digits')
        known = likeness.measured(data.train[0], data.valid[0])
        self.assertEqual(known.components.shape, (likeness.N_COMPONENTS, 784))
        test = data.test[0]
        self.assertLess(numpy.mean(known.distances(test) > known.limit), .03)  # measured: 0.016
        rng = numpy.random.RandomState(0)
        for strange in (1 - test, rng.rand(100, 784), test[:, rng.permutation(784)]):
            self.assertGreater(numpy.mean(known.distances(strange) > known.limit), .95)
        self.assertTrue(likeness.is_like_mnist(known.mean, (28, 28)))
        self.assertFalse(likeness.is_like_mnist(known.mean, (14, 56)))
        known.mean = 1 - known.mean
        self.assertFalse(likeness.is_like_mnist(known.mean, (28, 28)))

    def test_it_is_kept_in_the_folder_of_a_run(self):
        images = numpy.random.RandomState(0).rand(30, 6).astype('float32')
        folder = self.folder / 'run'
        with OutputFolder(folder) as run:
            run.begin('script')
            pair = engine.shared_data(images), None
            likeness.save(run, [pair, pair, pair])
            self.assertEqual(run.record['files'], ['likeness.npz'])
        known = likeness.load(str(folder), 6)
        for name, array in vars(likeness.measured(images, images)).items():
            numpy.testing.assert_array_equal(getattr(known, name), array)
        path = folder / 'likeness.npz'
        with self.assertRaisesRegex(UserError, 'of images of 7 pixels, are needed: train'):
            likeness.load(str(folder), 7)
        arrays = load_arrays(path)
        del arrays['mean']
        save_arrays(path, arrays)
        with self.assertRaisesRegex(UserError, r'the shapes \[\(0,\), .*: train the model again'):
            likeness.load(str(folder), 6)
        path.unlink()
        with self.assertRaisesRegex(UserError, 'there is no .*likeness.npz, by which images'):
            likeness.load(str(folder), 6)
