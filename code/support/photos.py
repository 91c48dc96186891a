"""Image files of the user's own, as the models know images."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

from support.errors import UserError

import numpy
import pytensor as theano
from PIL import Image, ImageOps


@contextlib.contextmanager
def opened(path: Path, content: bytes | None = None) -> Iterator[Image.Image]:
    """The picture in an image file, upright however the camera was held.

    :param content: of the file, where it is part of another one and `path` is only its name
    :raises UserError: when it cannot be read, or what is done with it inside fails
    """
    try:
        with Image.open(path if content is None else io.BytesIO(content)) as picture:
            yield ImageOps.exif_transpose(picture)
    except FileNotFoundError:
        raise UserError(f'there is no image {path}') from None
    except Exception as error:  # there is a decoder for each format, and each fails in its own way
        reason = ' '.join(str(error).split())[:200] or type(error).__name__
        raise UserError(f'{path} cannot be read as an image: {reason}') from None


def read_image(path: Path, image_shape: tuple[int, int], invert: bool = False) -> numpy.ndarray:
    """An image file as one row of grey levels.

    :param path: any file that Pillow reads
    :param image_shape: (height, width) to scale to
    :param invert: swap black and white
    :return: floatX (height * width,) in [0, 1)
    :raises UserError: when it is no image
    """
    grey = read_grey(path, image_shape)
    if invert:
        grey = 255 - grey
    return grey.astype(theano.config.floatX).ravel() / 256


def read_grey(path: Path, image_shape: tuple[int, int],
              content: bytes | None = None) -> numpy.ndarray:
    """An image file as grey levels, uint8 (height, width); the parameters are those from above."""
    with opened(path, content) as picture:
        return numpy.asarray(to_grey(picture).resize(image_shape[::-1], Image.Resampling.LANCZOS))


def to_grey(picture: Image.Image) -> Image.Image:
    """A picture in 256 levels of grey: what is transparent is paper, and so white.

    :raises ValueError: when its pixels are floats, of which black and white are not known
    """
    if picture.mode == 'F':
        raise ValueError('its pixels are floating-point numbers; save it with 8 bits')
    if picture.mode.startswith('I'):  # 16 bits, whatever Pillow keeps them in
        levels = numpy.asarray(picture).clip(0, 65535) // 256
        return Image.fromarray(levels.astype('uint8'))
    if 'A' in picture.getbands() or 'transparency' in picture.info:
        paper = Image.new('RGBA', picture.size, 'white')
        picture = Image.alpha_composite(paper, picture.convert('RGBA'))
    return picture.convert('L')
