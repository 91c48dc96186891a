r"""Whether an image is like those that a model was trained on, so that its answer means something.

A softmax adds up to one whatever it is shown. What the training images have in common is described
by their mean :math:`\mu` and their first principal components, the columns of :math:`V`; and of an
image :math:`x` these leave unexplained

.. math::
    d(x) = \| (x - \mu) - V V^T (x - \mu) \|

An image is called unlike when this distance is larger than that of 99 % of the validation images,
of which the model has not seen one either. Mean and components are those of a thousand images, and
so is the quantile, or of as many as there are.

Reference: C. M. Bishop, "Pattern Recognition and Machine Learning", 2006, section 12.1
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.checkpoints import load_arrays, save_arrays
from support.digits import SIDE
from support.errors import UserError
from support.folders import OutputFolder

import numpy

LIKENESS = 'likeness.npz'
N_EXAMPLES = 1000
N_COMPONENTS = 50
QUANTILE = .99


@dataclass
class Likeness:
    """What a run knows of its images.

    :param mean: of the training images, float32 (n_in,)
    :param components: float32 (n_components, n_in), orthonormal
    :param limit: the distance from which on an image is unlike them, float32 ()
    """

    mean: numpy.ndarray
    components: numpy.ndarray
    limit: numpy.ndarray

    def distances(self, images: numpy.ndarray) -> numpy.ndarray:
        """What mean and components leave unexplained of each image, (n_images,).

        :param images: (n_images, n_in)
        """
        rest = images - self.mean
        return numpy.linalg.norm(rest - rest @ self.components.T @ self.components, axis=1)


def is_like_mnist(mean: numpy.ndarray, image_shape: tuple[int, int]) -> bool:
    """Whether images are white on black, 28 x 28, with nothing at the edge, as those of MNIST are.

    On the mean image, no pixel at the edge is brighter than 0.01.

    :param mean: of the training images, (n_in,)
    """
    if image_shape != (SIDE, SIDE):
        return False
    edge = mean.reshape(image_shape).copy()
    edge[1:-1, 1:-1] = 0
    return bool(edge.max() < .01)


def measured(train: numpy.ndarray, valid: numpy.ndarray) -> Likeness:
    """Mean, components and limit from training and validation images, (n_images, n_in)."""
    train, valid = (images[numpy.linspace(0, len(images) - 1, min(len(images), N_EXAMPLES),
                                          dtype=int)].astype('float32')
                    for images in (train, valid))
    mean = train.mean(axis=0)
    _, _, components = numpy.linalg.svd(train - mean, full_matrices=False)
    likeness = Likeness(mean, components[:N_COMPONENTS], numpy.zeros(()))
    likeness.limit = numpy.quantile(likeness.distances(valid), QUANTILE).astype('float32')
    return likeness


def save(run: OutputFolder, data: Any) -> None:
    """Describe a data set in the folder of a run.

    :param data: what :func:`logistic_sgd.load_data` returns
    """
    (train, _), (valid, _), _ = data
    save_arrays(run.file(LIKENESS), vars(measured(
        *(numpy.asarray(images.get_value(borrow=True)) for images in (train, valid)))))


def load(output_folder: str, n_in: int) -> Likeness:
    """What :func:`save` wrote into the folder of a run.

    :raises UserError: when that is missing, broken, or does not fit images of n_in pixels
    """
    path = Path(output_folder, LIKENESS)
    if not path.exists():
        raise UserError(f'there is no {path}, by which images are prepared and compared: train '
                        'the model again, with `overwrite=True`')
    arrays = load_arrays(path)
    likeness = Likeness(*(arrays.get(name, numpy.zeros(0)) for name in ('mean', 'components',
                                                                        'limit')))
    shapes = [array.shape for array in vars(likeness).values()]
    if (shapes != [(n_in,), (likeness.components.size // n_in, n_in), ()]
            or not all(array.dtype == 'float32' and numpy.isfinite(array).all()
                       for array in vars(likeness).values())):
        raise UserError(f'{path} holds arrays of the shapes {shapes}, where three of finite 32-bit '
                        f'numbers, of images of {n_in} pixels, are needed: train the model again, '
                        'with `overwrite=True`')
    return likeness
