"""Classify images with a trained model: those in files of one's own, or a whole test set.

The model is what a supervised script left in its output folder. An image file of any kind and
size is turned into grey levels and scaled to the size that the model was trained on.

The digits of MNIST were prepared, and so is a photo for a model that was trained on MNIST, on
``digits``, or on data like these: 28 x 28 pixels, of which those at the edge are black, no
brighter than 0.01 in the mean image (:mod:`support.photos` says how). An image that is unlike those
that the model was trained on is classified, too, but with a notice (:mod:`support.likeness`).

Classes that have names in the data set are called by them.

The model of a script of your own (:mod:`support.own_scripts`) needs a symbolic ``input``, floatX
(n_images, n_in), and ``p_y_given_x``, (n_images, n_out); ``n_in`` and ``n_out`` are on record.
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path

from support import command_line, datasets, likeness
from support.errors import UserError, choose, notice
from support.own_scripts import load_model, recorded_shape
from support.photos import image_files, reader
from support.tiles import save_with_words

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


def load_classifier(output_folder: str, script: Path | None = None
                    ) -> tuple[logistic_sgd.Classifier, tuple[int, int], list[str]]:
    """The model that a run left in its folder, the shape of its images, the names of its classes.

    :param script: that has trained it, where this is none of the chapters
    :raises UserError: when the folder holds no run of a supervised script
    """
    classifier, record = load_model(output_folder, BUILDERS, 'classifier',
                                    ('input', 'p_y_given_x'), script)
    sizes = record['model']
    n_pixels = sizes.get('n_in') or sizes.get('n_ins') or math.prod(sizes.get('image_shape', [0]))
    n_classes = sizes.get('n_out') or sizes.get('n_outs')
    if not (n_pixels and n_classes):
        raise UserError(f'the sizes that {output_folder} has on record, {", ".join(sizes)}, have '
                        'no n_in and n_out: let the script record these as well')
    data = record.get('data', {})
    image_shape = recorded_shape(output_folder, data, n_pixels)
    names = data.get('classes')
    if names is not None and not (isinstance(names, list) and len(names) == n_classes):
        raise UserError(f'{output_folder} holds a record in which the names of the classes do not '
                        f'fit a model of {n_classes} classes: train it again')
    classes = [str(name) for name in names or range(n_classes)]
    return classifier, image_shape, classes


def find_images(images: tuple[Path, ...]) -> list[tuple[Path, bytes | None]]:
    """The image files that are meant, and the content of that which is no file.

    :param images: files, folders, and ``-`` for standard input
    :raises UserError: when there is none in a folder, or nothing at standard input
    """
    found: list[tuple[Path, bytes | None]] = []
    for path in images:
        if path == Path('-'):
            content = sys.stdin.buffer.read() if sys.stdin else b''
            if not content:
                raise UserError('standard input is empty: give the bytes of a picture there')
            found.append((Path('standard input'), content))
        elif path.is_dir():
            files = image_files(path)
            if not files:
                raise UserError(f'{path} holds no image files: give a folder that does')
            found += [(file, None) for file in files]
        else:
            found.append((path, None))
    return found


def readable_images(files: list[tuple[Path, bytes | None]], read: Callable[..., numpy.ndarray]
                    ) -> tuple[list[Path], numpy.ndarray]:
    """The files that can be read, and their pixels, (n_images, n_in); a notice of the others.

    :raises UserError: when it is none of them
    """
    found = []
    for name, content in files:
        try:
            found.append((name, read(name, content=content)))
        except UserError as error:
            if len(files) == 1:
                raise
            notice(f'left out: {error}')
    if not found:
        raise UserError(f'none of the {len(files)} images can be read')
    return [name for name, _ in found], numpy.array([pixels for _, pixels in found])


def predict_images(classifier: logistic_sgd.Classifier, rows: numpy.ndarray, names: list[Path],
                   classes: list[str], known: likeness.Likeness) -> tuple[numpy.ndarray, list[str]]:
    """Print the two most probable classes of each image, and a notice where it is a strange one.

    :param rows: floatX (n_images, n_in) in [0, 1)
    :return: the most probable classes, (n_images,), and in words what was printed of each image
    """
    probabilities = logistic_sgd.get_p_y_given_x(classifier)(rows)
    order = numpy.argsort(-probabilities, axis=1, kind='stable')[:, :2]
    answers = ['; or '.join(f'{classes[i]}, with probability {p[i]:.3f}' for i in best)
               for p, best in zip(probabilities, order, strict=True)]
    for name, answer, distance in zip(names, answers, known.distances(rows), strict=True):
        print(f'{name}: {answer}')
        if distance > known.limit:
            notice(f'{name} is unlike the images that the model was trained on, by {distance:.1f} '
                   f'where {likeness.QUANTILE:.0%} of those have at most {known.limit:.1f}: its '
                   'answer may mean nothing')
    return order[:, 0], answers


def predict(output_folder: str, images: tuple[Path, ...] = (), dataset: str | None = None,
            prepare: str = 'auto', invert: bool = False, show: Path | None = None,
            script: Path | None = None) -> numpy.ndarray:
    """Classify images with a model that was trained before.

    For example::

        python code/predict.py --output-folder mlp_output
        python code/predict.py --output-folder mlp_output --images seven.png
        python code/predict.py --output-folder my_output --script my.py

    :param output_folder: of a run of logistic_sgd.py, logistic_cg.py, mlp.py,
        convolutional_mlp.py, SdA.py or DBN.py
    :param images: image files, folders of such, or - for standard input; when there are none, the
        test set is classified
    :param dataset: whose test set; MNIST when left out
    :param prepare: digit to find the digit in each file and make it as those of MNIST are; none to
        scale the whole picture; auto to do what fits the images that the model was trained on
    :param invert: swap black and white in image files that are scaled as a whole
    :param show: a PNG file to write, with each image as the model saw it beside its answer
    :param script: of your own that has trained the model; its function build is called
    :return: predicted classes, (n_images,)
    """
    classifier, image_shape, classes = load_classifier(output_folder, script)
    if images:
        known = likeness.load(output_folder, math.prod(image_shape))
        is_digit = choose({'auto': likeness.is_like_mnist(known.mean, image_shape), 'digit': True,
                           'none': False}, prepare=prepare)
        read = reader(is_digit, image_shape, invert)
        files = find_images(images)
        if show and not show.parent.is_dir():
            raise UserError(f'`show` is {show}, but there is no folder {show.parent}: make it')
        if show in [name for name, content in files]:
            raise UserError(f'`show` is {show}, which is one of the images: give another name')
        names, rows = readable_images(files, read)
        predicted, answers = predict_images(classifier, rows, names, classes, known)
        if show:
            save_with_words(show, rows, image_shape, answers)
        if len(rows) < len(files):
            raise UserError(f'{len(files) - len(rows)} of {len(files)} images were left out')
        return predicted
    if show:
        raise UserError('`show` is for image files: give some as `images`')
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
