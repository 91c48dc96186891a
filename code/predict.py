"""Classify images with a trained model: those in files of one's own, or a whole test set.

The model is what a supervised script left in its output folder. An image file of any kind and
size is turned into grey levels and scaled to the size that the model was trained on. The digits
of MNIST are white on black and fill the middle of the picture; for ink on paper say ``--invert``.
Classes that have names in the data set are called by them.
"""

import math
from collections.abc import Callable
from pathlib import Path

from support import checkpoints, command_line, datasets
from support.errors import UserError
from support.folders import read_record
from support.photos import read_image

import numpy
import pytensor as theano

import convolutional_mlp
import logistic_cg
import logistic_sgd
import mlp
import stacked

# By the script that trained a model, what builds such a one again. No record names code to run.
BUILDERS: dict[str, Callable[..., logistic_sgd.Classifier]] = {
    'logistic_sgd': logistic_sgd.build, 'logistic_cg': logistic_cg.build, 'mlp': mlp.build,
    'convolutional_mlp': convolutional_mlp.build, 'SdA': stacked.build, 'DBN': stacked.build,
}


def load_classifier(output_folder: str
                    ) -> tuple[logistic_sgd.Classifier, tuple[int, int], list[str]]:
    """The model that a run left in its folder, the shape of its images, the names of its classes.

    :raises UserError: when the folder holds no run of a supervised script
    """
    record = read_record(output_folder)
    if record['script'] not in BUILDERS:
        raise UserError(f'{output_folder} holds a run of {record["script"]}.py, which is no '
                        'classifier')
    classifier = checkpoints.load(output_folder, BUILDERS[record['script']])
    sizes = record['model']
    n_pixels = sizes.get('n_in') or sizes.get('n_ins') or math.prod(sizes['image_shape'])
    data = record.get('data', {})
    image_shape = data.get('image_shape')
    if not (isinstance(image_shape, list) and [type(n) for n in image_shape] == [int, int]
            and min(image_shape) > 0 and math.prod(image_shape) == n_pixels):
        raise UserError(f'{output_folder} holds a record in which images of shape {image_shape} '
                        f'do not fit a model of {n_pixels} inputs: train it again')
    n_classes = sizes.get('n_out') or sizes['n_outs']
    names = data.get('classes')
    if names is not None and not (isinstance(names, list) and len(names) == n_classes):
        raise UserError(f'{output_folder} holds a record in which the names of the classes do not '
                        f'fit a model of {n_classes} classes: train it again')
    classes = [str(name) for name in names or range(n_classes)]
    return classifier, tuple(image_shape), classes


def predict(output_folder: str, images: tuple[Path, ...] = (), dataset: str | None = None,
            invert: bool = False) -> numpy.ndarray:
    """Classify images with a model that was trained before.

    For example::

        python code/predict.py --output-folder mlp_output
        python code/predict.py --output-folder mlp_output --images seven.png

    :param output_folder: of a run of logistic_sgd.py, logistic_cg.py, mlp.py,
        convolutional_mlp.py, SdA.py or DBN.py
    :param images: image files; when there are none, the test set is classified
    :param dataset: whose test set; MNIST when left out
    :param invert: swap black and white in the image files
    :return: predicted classes, (n_images,)
    """
    classifier, image_shape, classes = load_classifier(output_folder)
    if images:
        rows = numpy.array([read_image(path, image_shape, invert) for path in images])
        probabilities = logistic_sgd.get_p_y_given_x(classifier)(rows)
        for path, p in zip(images, probabilities, strict=True):
            print(f'{path}: {classes[p.argmax()]}, with probability {p.max():.3f}')
        return probabilities.argmax(axis=1)
    data = datasets.read(dataset)
    x, y = data.test
    if x.shape[1] != numpy.prod(image_shape):
        raise UserError(f'the images of {data.name} have {x.shape[1]} pixels, those that the model '
                        f'was trained on {numpy.prod(image_shape)}: name that data set')
    if data.classes and list(data.classes) != classes:
        raise UserError(f'the classes of {data.name} are {", ".join(data.classes)}, those that the '
                        f'model was trained on {", ".join(classes)}: name that data set')
    predicted = logistic_sgd.classify(classifier, x.astype(theano.config.floatX))
    print(f'{data.name}: {numpy.count_nonzero(predicted != y)} of {len(y)} test images are '
          f'misclassified, {100 * numpy.mean(predicted != y):f} %')
    return predicted


if __name__ == '__main__':
    command_line.main(predict)
