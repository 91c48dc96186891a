"""Tests of reconstruct.py and sample.py, with models of the book and of a script elsewhere."""

from pathlib import Path

from support import checkpoints, datasets
from support.errors import UserError
from support.testing import TestCase, printed

import numpy
from PIL import Image

import cA
import mlp
import rbm
import reconstruct
import sample
import vae

OWN = """
import numpy, pytensor, pytensor.tensor as T
class Model:
    def __init__(self, n_visible):
        self.W = pytensor.shared(numpy.zeros((n_visible, 2), 'float32'), name='W')
        self.params = [self.W]
    def reconstruct(self, x):
        return T.dot(T.dot(x, self.W), self.W.T)
    def sample(self, rng, n):
        return rng.uniform(size=(n, self.W.get_value().shape[0]))
def build(n_visible, **sizes):
    return Model(n_visible)
"""


class TestCommands(TestCase):
    def test_auto_encoder(self):
        run = str(self.folder / 'run')
        with printed():
            cA.train(training_epochs=1, n_hidden=20, dataset='digits', output_folder=run)
        with printed() as out:
            restored = reconstruct.reconstruct(run, dataset='digits', damage=0.3, n=4)
        images = datasets.read('digits').test[0][:4]
        self.assertRegex(out.getvalue(), r'mean squared error of a pixel 0\.\d+; the picture is ')
        self.assertLess(numpy.mean((restored - images) ** 2),
                        numpy.mean((images - images.mean()) ** 2))
        with Image.open(Path(run) / 'reconstructions.png') as picture:
            pixels = numpy.asarray(picture).reshape(-1, 4 * 29 - 1)[:, :28]
        self.assertEqual(len(pixels), 3 * 29 - 1)
        numpy.testing.assert_allclose(pixels[:28], 255 * images[0].reshape(28, 28), atol=1)
        holes = (pixels[29:57] == 0) & (pixels[:28] > 0)
        self.assertTrue(0.1 < holes.sum() / (pixels[:28] > 0).sum() < 0.5)
        numpy.testing.assert_allclose(pixels[58:], 255 * restored[0].reshape(28, 28), atol=1)

    def test_models_that_draw(self):
        for train, sizes in ((vae.train, {'hidden_layers_sizes': (10,), 'n_latent': 2,
                                          'n_codes': 2}),
                             (rbm.train, {'n_hidden': 40, 'k': 1, 'n_samples': 1,
                                          'plot_every': 1})):
            run = str(self.folder / train.__module__)
            with printed():
                train(training_epochs=1, dataset='digits', output_folder=run, **sizes)
                first, again, other = (sample.sample(run, 12, seed) for seed in (1, 1, 2))
                restored = reconstruct.reconstruct(run, dataset='digits')
            self.assertEqual(restored.shape, (10, 784))
            numpy.testing.assert_array_equal(first, again)
            self.assertTrue(numpy.any(first != other))
            self.assertTrue(((first >= 0) & (first <= 1)).all())
            with Image.open(Path(run) / 'drawn.png') as picture:
                self.assertEqual(picture.size, (10 * 29 - 1, 2 * 29 - 1))

    def test_script_of_the_users_own(self):
        run, script = str(self.folder / 'run'), self.folder / 'own.py'
        with printed():
            cA.train(training_epochs=1, n_hidden=2, dataset='digits', output_folder=run)
        script.write_text(OWN)
        with printed():
            restored = reconstruct.reconstruct(run, dataset='digits', script=script)
            self.assertEqual(sample.sample(run, 3, script=script).shape, (3, 784))
        W = checkpoints.load(run, cA.build).W.get_value()
        images, _ = datasets.read('digits').test
        numpy.testing.assert_allclose(restored, images[:10] @ W @ W.T, rtol=1e-3, atol=1e-4)

    def test_mistakes(self):
        run, script = str(self.folder / 'run'), self.folder / 'none.py'
        with printed():
            mlp.train(n_epochs=1, n_hidden=2, dataset='digits', output_folder=run)
        with self.assertRaisesRegex(UserError, 'a run of mlp.py, which is no model with `sample`'):
            sample.sample(run)
        for text, message in (('', 'has no function `build`'),
                              ('from mlp import build', 'have no method `reconstruct`')):
            script.write_text(text)
            with self.assertRaisesRegex(UserError, message):
                reconstruct.reconstruct(run, script=script)
        with self.assertRaisesRegex(UserError, '`damage` is 2'):
            reconstruct.reconstruct(run, damage=2)
        script.write_text(OWN)
        record = Path(run) / 'run.json'
        record.write_text(record.read_text().replace('"n_in": 784', '"n_visible": 784').replace(
            '"image_shape": [', '"image_shape": [7, '))
        with self.assertRaisesRegex(UserError, 'do not fit a model of 784 inputs'):
            reconstruct.reconstruct(run, script=script)
