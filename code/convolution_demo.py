"""Convolution and max-pooling to look at: two demonstrations of what LeNet is made of.

``convolution_demo.py edges`` convolves a photo with random filters, which turn out to find edges;
``convolution_demo.py pooling`` prints what max-pooling makes of a small array.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from support import command_line
from support.convolution import conv2d, max_pool_2d
from support.errors import UserError
from support.folders import OutputFolder, written_atomically
from support.photos import opened

import numpy
import pytensor as theano
import pytensor.tensor as T
from PIL import Image, ImageDraw
from tyro.conf import subcommand

LARGEST_PHOTO = 640  # pixels in height or width; a larger one is scaled down


def edges(photo: Path | None = None,
          output_folder: str = 'convolution_demo_output') -> numpy.ndarray:
    """Convolve a colour photo with two random filters, and draw what they make of it.

    :param photo: any image file; a picture that is drawn here when left out
    :param output_folder: where edges.png goes: the photo and the two feature maps
    :return: the two feature maps, floatX (2, height - 8, width - 8)
    """
    pixels = numpy.asarray(draw_landscape() if photo is None else read_photo(photo))
    height, width, n_channels = pixels.shape
    filter_shape = (2, n_channels, 9, 9)
    if min(height, width) < 9:
        raise UserError(f'the photo has {height} x {width} pixels: give one of at least 9 x 9')

    rng = numpy.random.RandomState(23455)
    bound = 1 / numpy.sqrt(math.prod(filter_shape[1:]))
    W = rng.uniform(low=-bound, high=bound, size=filter_shape).astype(theano.config.floatX)
    b = rng.uniform(low=-.5, high=.5, size=2).astype(theano.config.floatX)
    images = T.tensor('images', shape=(1, n_channels, height, width), dtype=theano.config.floatX)
    feature_maps = T.sigmoid(conv2d(images, T.constant(W)) + b[:, None, None])
    convolve = theano.function([images], feature_maps)

    # (height, width, channel) -> (1, channel, height, width), from 0 to 1
    image = (pixels.transpose(2, 0, 1)[None] / 256).astype(theano.config.floatX)
    maps = numpy.asarray(convolve(image))[0]
    with OutputFolder(output_folder) as output:
        output.begin('convolution_demo')
        path = output.file('edges.png')
        plot_side_by_side(path, [pixels, *maps], ['photo', 'first filter', 'second filter'])
    print(f'The photo and its two feature maps are in {path}')
    return maps


def read_photo(path: Path) -> Image.Image:
    """A photo in colour, scaled down if it is very large.

    :raises UserError: when it is no image
    """
    with opened(path) as picture:
        photo = picture.convert('RGB')
    photo.thumbnail((LARGEST_PHOTO, LARGEST_PHOTO))
    return photo


def draw_landscape(width: int = 480, height: int = 360) -> Image.Image:
    """A house under the sun, with edges of many directions and contrasts."""
    picture = Image.new('RGB', (width, height), (125, 180, 235))
    pen = ImageDraw.Draw(picture)

    def scaled(*points):
        return [(x * width, y * height) for x, y in points]

    pen.ellipse(scaled((.78, .06), (.94, .27)), fill=(255, 220, 70))
    pen.polygon(scaled((0, .7), (.25, .3), (.5, .7)), fill=(120, 120, 140))
    pen.polygon(scaled((.2, .7), (.55, .2), (.9, .7)), fill=(90, 95, 120))
    pen.polygon(scaled((.46, .33), (.55, .2), (.64, .33)), fill=(240, 240, 250))
    pen.rectangle(scaled((0, .65), (1, 1)), fill=(70, 150, 70))
    pen.polygon(scaled((.3, 1), (.42, .8), (.48, .8), (.5, 1)), fill=(190, 170, 130))
    pen.rectangle(scaled((.32, .52), (.58, .82)), fill=(225, 205, 170))
    pen.polygon(scaled((.28, .54), (.45, .36), (.62, .54)), fill=(165, 60, 45))
    pen.rectangle(scaled((.42, .65), (.48, .82)), fill=(95, 60, 35))
    for left in (.35, .51):
        pen.rectangle(scaled((left, .6), (left + .05, .68)), fill=(60, 80, 120))
    for i in range(12):  # a fence
        pen.rectangle(scaled((.64 + .03 * i, .74), (.655 + .03 * i, .86)), fill=(245, 245, 240))
    return picture


def plot_side_by_side(path: Path, pictures: Sequence[numpy.ndarray],
                      titles: Sequence[str]) -> None:
    """Draw pictures in one row, those of (height, width) in grey, (height, width, 3) in colour."""
    from matplotlib.figure import Figure  # slow to import, and needed only here

    figure = Figure(figsize=(4 * len(pictures), 3.5), layout='constrained')
    for axes, picture, title in zip(figure.subplots(1, len(pictures)), pictures, titles,
                                    strict=True):
        axes.imshow(picture, cmap='gray')
        axes.set(title=title)
        axes.axis('off')
    with written_atomically(path, durable=False) as file:
        figure.savefig(file, format='png', dpi=100)


def pooling() -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """Print what max-pooling over windows of 2 x 2 makes of 5 x 5 numbers, with and without border.

    :return: the numbers, floatX (3, 2, 5, 5), and the maxima without the border, (3, 2, 2, 2), and
        with it, (3, 2, 3, 3)
    """
    numbers = numpy.random.RandomState(1).rand(3, 2, 5, 5).astype(theano.config.floatX)
    images = T.tensor('images', shape=numbers.shape, dtype=theano.config.floatX)
    pool = theano.function([images], [max_pool_2d(images, (2, 2), ignore_border=True),
                                      max_pool_2d(images, (2, 2), ignore_border=False)])
    without_border, with_border = map(numpy.asarray, pool(numbers))
    with numpy.printoptions(precision=4, suppress=True):
        for title, maxima in (('ignore_border=True', without_border),
                              ('ignore_border=False', with_border)):
            print(f'With {title}:')
            for n, c in ((0, 0), (1, 0)):
                print(f'images[{n}, {c}] =\n{numbers[n, c]}')
                print(f'maxima[{n}, {c}] =\n{maxima[n, c]}')
    return numbers, without_border, with_border


if __name__ == '__main__':
    command_line.main(Annotated[Any, subcommand('edges', constructor=edges)]
                      | Annotated[Any, subcommand('pooling', constructor=pooling)])
