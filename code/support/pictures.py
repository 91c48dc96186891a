"""Images as people have them, brought into the form in which `support.datasets` checks them.

`read_folder` reads a folder with a folder of image files for each class. In data of any format,
`in_grey` takes the colours away, `numbered` gives classes their numbers, and `complete` splits off
validation and test sets that are missing, the same ones each time. What was done is said on stderr.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.errors import UserError, notice
from support.files import check_size
from support.photos import image_files, opened, read_grey

import numpy

SPLITS = {'train': 'training', 'valid': 'validation', 'test': 'test'}
MNIST_SPLIT = 50000, 10000  # as the tutorials have always split its training set
LARGEST_LABEL = 65535
GREY = numpy.array([.299, .587, .114])  # shares of red, green, blue: those of Pillow
SEED = 1  # of every division and order
# How a set may be named, besides by the names in SPLITS.
SYNONYMS = {'training': 'train', 'val': 'valid', 'validation': 'valid', 'testing': 'test'}

Pair = tuple[numpy.ndarray, numpy.ndarray]  # images and labels


@dataclass
class Stored:
    """Images and labels as they are stored, not checked yet.

    :param sets: by the names in SPLITS; `train` is there
    :param classes: the names of the classes, if there are any: that of label 0 first
    """

    sets: dict[str, Pair]
    classes: tuple[str, ...] = ()


def size_of(path: Path, content: bytes | None = None) -> tuple[int, int]:
    """(height, width) of an image file.

    :param content: of the file at `path`, where that is only a name
    """
    with opened(path, content) as picture:
        return picture.size[::-1]


def announce(path: Path, n_images: int, classes: Sequence[str], image_shape: tuple[int, int]
             ) -> None:
    """Say what becomes of image files, and refuse what is too large before it is in memory."""
    height, width = image_shape
    notice(f'{path}: {n_images} images{f" of {len(classes)} classes" if classes else ""}, taken in '
           f'grey levels and at {height} x {width} pixels; {path.name}@28 would mean 28 x 28.')
    try:
        check_size(path, 4 * n_images * height * width)  # as float32
    except UserError as error:
        raise UserError(f'{error} Or let them be smaller: {path.name}@28 means 28 x 28 pixels.'
                        ) from None


def as_arrays(rows: Iterable[tuple[Path, bytes | None, Any]], n: int,
              image_shape: tuple[int, int]) -> Pair:
    """Image files as arrays, in a random order: a minibatch of one class would teach little.

    :param rows: of each file the path, its content unless it is on the disk, and the label
    :return: images uint8 (n, height, width), and labels (n,)
    """
    x, labels = numpy.empty((n, *image_shape), numpy.uint8), [None] * n
    order = numpy.random.RandomState(SEED).permutation(n)
    for place, (path, content, label) in zip(order, rows, strict=True):
        x[place] = read_grey(path, image_shape, content)
        labels[place] = label
    return x, numpy.array(labels)


def folders_in(path: Path) -> list[Path]:
    """The folders in one, hidden ones left out."""
    return sorted(folder for folder in path.iterdir()
                  if folder.is_dir() and not folder.name.startswith(('.', '__')))


def natural(name: str) -> tuple[list[str | int], str]:
    """The key that sorts `shape 2` before `shape 10`, and no two names as equal."""
    return [int(part) if part.isdecimal() else part for part in re.split(r'(\d+)', name)], name


def read_folder(path: Path, image_shape: tuple[int, int] | None = None) -> Stored:
    """Read a folder with a folder of image files for each class.

    :param path: of the folder of the classes; or of one with folders `train`, `valid`, `test`, of
        which each holds those of the classes. What Pillow does not read is passed over.
    :param image_shape: (height, width) to scale to; None for the size of the first image
    :return: images uint8 (n, height, width), in a random order, and labels (n,)
    :raises UserError: when there are no images, one is broken, or all are too large
    """
    sets = {SYNONYMS.get(folder.name.lower(), folder.name.lower()): folders_in(folder)
            for folder in folders_in(path)}
    if not sets.get('train'):  # no folder, or a class of this name
        sets = {'train': folders_in(path)}
    files = {split: [(file, folder.name) for folder in folders for file in image_files(folder)]
             for split, folders in sets.items() if split in SPLITS and folders}
    for pairs in files.values():
        for file, _ in pairs:
            if not file.is_file():  # but a folder, a broken link, or a pipe, which has no end
                raise UserError(f'{file}: is not a file: mend or remove it.')
    if not files.get('train'):
        raise UserError(f'{path}: holds no images to train on: put those of each class into a '
                        'folder of its own there.')
    classes = sorted({name for pairs in files.values() for file, name in pairs}, key=natural)
    image_shape = image_shape or size_of(files['train'][0][0])
    announce(path, sum(map(len, files.values())), classes, image_shape)
    return Stored({split: as_arrays(((file, None, classes.index(name)) for file, name in pairs),
                                    len(pairs), image_shape)
                   for split, pairs in files.items()}, tuple(classes))


def in_grey(path: Path, sets: dict[str, Pair]) -> dict[str, Pair]:
    """Images in colour, (n, height, width, 3), become grey levels of the same type; others stay."""
    coloured = [split for split, (x, y) in sets.items()
                if x.ndim == 4 and x.shape[3] == 3 and x.dtype.kind in 'iuf']
    if coloured:
        notice(f'{path}: its images are in colour, and are taken in grey levels.')
    grey = {}
    for split in coloured:
        x, y = sets[split]
        levels = numpy.empty(x.shape[:3], x.dtype)
        for i, image in enumerate(x):  # one at a time, since products are of 64 bits
            level = image @ GREY
            levels[i] = level if x.dtype.kind == 'f' else numpy.rint(level)
        grey[split] = levels, y
    return sets | grey


def numbered(path: Path, stored: Stored) -> Stored:
    """Labels that are names, or count from 1, become integers from 0, and are kept as names."""
    labels = [y for x, y in stored.sets.values()]
    kinds = {y.dtype.kind for y in labels if y.size}
    if kinds and kinds <= {'U', 'S'}:
        words = {split: y.astype(str) for split, (x, y) in stored.sets.items()}
        classes = sorted({name for y in words.values() for name in y.ravel().tolist()}, key=natural)
        number = {name: i for i, name in enumerate(classes)}
        notice(f'{path}: its labels are names, and are numbered in their order, from {classes[0]} '
               f'as 0 to {classes[-1]} as {len(classes) - 1}.')
        return Stored({split: (x, numpy.reshape([number[name] for name in words[split].ravel()],
                                                y.shape))
                       for split, (x, y) in stored.sets.items()}, tuple(classes))
    if not stored.classes and kinds and kinds <= {'i', 'u'}:
        lowest = min(y.min() for y in labels if y.size)
        highest = int(max(y.max() for y in labels if y.size))
        if lowest == 1 and highest <= LARGEST_LABEL:
            notice(f'{path}: its labels are from 1 to {highest}, and are taken as classes from 0.')
            return Stored({split: (x, y - 1) for split, (x, y) in stored.sets.items()},
                          tuple(str(label) for label in range(1, highest + 1)))
    return stored


def complete(path: Path, sets: dict[str, Pair]) -> list[Pair]:
    """The three sets; for those that are missing, a sixth each is split off the training set.

    Each class has the same share of each part, to within one image, and the order is random. Only
    of 60,000 images is it the last 10,000, as it has always been of MNIST.

    :param sets: checked arrays, by the names in SPLITS
    """
    missing = [split for split in SPLITS if split not in sets]
    if missing:
        x, y = sets['train']
        if len(y) < 6:
            raise UserError(f'{path}: has {len(y)} images to train on, too few to split off a '
                            f'{SPLITS[missing[0]]} set: give more, or all three sets.')
        n_train, n_valid = MNIST_SPLIT
        if missing == ['valid'] and len(y) == n_train + n_valid:
            parts: list[Any] = [slice(n_train), slice(n_train, None)]
        else:
            parts = shares(y, len(missing))
            notice(f'{path}: has no {" and no ".join(SPLITS[split] for split in missing)} set: '
                   f'{len(y) // 6} of its {len(y)} training images are taken for '
                   f'{"it" if len(missing) == 1 else "each"}, of every class the same share, at '
                   'random but always the same.')
        sets |= {split: (x[part], y[part])
                 for split, part in zip(['train', *missing], parts, strict=True)}
    return [sets[split] for split in SPLITS]


def shares(y: numpy.ndarray, n_small: int) -> list[numpy.ndarray]:
    """Divide at random, but evenly by class, into one large and `n_small` small parts.

    :param y: labels (n,)
    :return: the places of the images in each part; a small part has n // 6
    """
    rng = numpy.random.RandomState(SEED)
    by_class = numpy.lexsort((rng.random_sample(len(y)), y))
    turn = numpy.arange(len(y)) % 6
    small = [by_class[turn == 5 - i] for i in range(n_small)]
    return [rng.permutation(part) for part in (by_class[turn < 6 - n_small], *small)]
