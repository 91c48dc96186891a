"""Image files of the user's own, as the models know images.

`read_image` scales a whole picture. `read_digit` looks for the digit on a photo or a drawing, and
makes of it what was made of the digits of MNIST (LeCun et al., 1998):

1. Light and paper. The paper is what most pixels are like, compared with the brightest and the
   darkest place around them: a third of the picture, so that a shadow on one side does no harm. Its
   level is the closing of the picture by a window of that size, or the opening where the paper is
   the darker one: what is left when all that is smaller than the window is painted over. Ink is
   by how many times the level of the paper a pixel differs from it.
2. Ink. What has more than two fifths of the contrast of the strongest ink, and is connected,
   is one piece. Pieces that lie along the edge of the picture, such as the table beside the paper,
   and those of less than a tenth of the largest, such as dust, are left out.
3. Size and place. The box of the ink is scaled to fit into 20 x 20 pixels and keeps its shape; its
   centre of mass goes to the middle of 28 x 28.
"""

import contextlib
import functools
import io
from collections.abc import Callable, Iterator
from pathlib import Path

from support.digits import BOX, SIDE
from support.errors import UserError

import numpy
import pytensor as theano
from PIL import Image, ImageOps

LARGEST = 400  # pixels of the longer side of a photo, as far as a digit is looked for
LEAST_CONTRAST = .15  # of ink and paper, as a part of the latter
LEAST_SIDE = 8  # of a digit, in pixels


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


def image_files(folder: Path) -> list[Path]:
    """The image files in a folder and in those below it, but for hidden ones, in order."""
    endings = {ending for ending, kind in Image.registered_extensions().items()
               if kind in Image.OPEN}
    return [file for file in sorted(folder.rglob('*'))
            if file.suffix.lower() in endings and not file.name.startswith('.')]


def read_image(path: Path, image_shape: tuple[int, int], invert: bool = False,
               content: bytes | None = None) -> numpy.ndarray:
    """An image file as one row of grey levels.

    :param path: any file that Pillow reads
    :param image_shape: (height, width) to scale to
    :param invert: swap black and white
    :param content: of the file, as in :func:`opened`
    :return: floatX (height * width,) in [0, 1)
    :raises UserError: when it is no image
    """
    grey = read_grey(path, image_shape, content)
    if invert:
        grey = 255 - grey
    return grey.astype(theano.config.floatX).ravel() / 256


def reader(is_digit: bool, image_shape: tuple[int, int],
           invert: bool = False) -> Callable[..., numpy.ndarray]:
    """What reads an image file for a model of such images: :func:`read_digit` or `read_image`.

    :raises UserError: when a digit is to be found for a model of images of another shape
    """
    if not is_digit:
        return functools.partial(read_image, image_shape=image_shape, invert=invert)
    if image_shape != (SIDE, SIDE):
        raise UserError(f'`prepare` is digit, for images of {SIDE} x {SIDE} pixels, but the model '
                        f'was trained on {image_shape[0]} x {image_shape[1]}: set it to none')
    return read_digit


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


def read_digit(path: Path, content: bytes | None = None) -> numpy.ndarray:
    """The digit on a photo, or in any other image file, as those of MNIST are.

    :param content: of the file, as in :func:`opened`
    :return: floatX (784,) in [0, 1), white on black
    :raises UserError: when it is no image, or there is no digit of sufficient size and contrast
    """
    with opened(path, content) as picture:
        picture = to_grey(picture)
        picture.thumbnail((LARGEST, LARGEST))
        grey = numpy.asarray(picture, dtype='float32')
    ink = pieces_of_ink(ink_on_paper(grey))
    rows, columns = (numpy.flatnonzero((ink > .5).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        raise UserError(f'{path} shows no ink that stands out from the paper and keeps away from '
                        'the edge: give a picture of one digit with paper on all sides, or set '
                        '`prepare` to none')
    ink = ink[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
    if max(ink.shape) < LEAST_SIDE:
        raise UserError(f'{path} shows a digit of {ink.shape[0]} x {ink.shape[1]} pixels, too '
                        f'small to be read: give a picture in which it has {LEAST_SIDE} at least')
    return centred(ink).astype(theano.config.floatX).ravel() * 255 / 256


def ink_on_paper(grey: numpy.ndarray) -> numpy.ndarray:
    """By how many times the level of the paper each pixel differs from it, whatever the light.

    :param grey: float32 (height, width), from 0 to 255
    :return: float32 of the same shape: 0 where there is no ink
    """
    from scipy import ndimage  # slow to import, and needed only here

    # Without its noise; and not quite black, of which any light would be many times the level.
    grey = ndimage.gaussian_filter(grey, max(grey.shape) / 250) + 16
    window = [side // 3 | 1 for side in grey.shape]
    level = numpy.log(grey)
    middle = (ndimage.maximum_filter(level, window) + ndimage.minimum_filter(level, window)) / 2
    painted_over = ndimage.grey_closing if level.mean() > middle.mean() else ndimage.grey_opening
    return abs(1 - grey / painted_over(grey, window, mode='nearest'))


def pieces_of_ink(ink: numpy.ndarray) -> numpy.ndarray:
    """The ink of the digit alone, from 0 to 1, with soft edges.

    :param ink: from :func:`ink_on_paper`
    :return: of the same shape; all 0 when there is no ink but what lies along the edge
    """
    from scipy import ndimage

    strongest = numpy.quantile(ink, .9995)
    if strongest < max(LEAST_CONTRAST, 8 * numpy.median(ink)):  # that is noise
        return numpy.zeros_like(ink)
    ink = ink / strongest
    pieces, _ = ndimage.label(ink > .4, numpy.ones((3, 3)))
    sizes = numpy.bincount(pieces.ravel())
    edge = numpy.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])
    sizes[numpy.bincount(edge, minlength=len(sizes)) ** 2 > sizes] = 0
    sizes[0] = 0  # of the paper
    of_digit = (sizes > 0) & (sizes >= sizes.max() / 10)
    around = ndimage.binary_dilation(of_digit[pieces], numpy.ones((3, 3)), iterations=2)
    return numpy.clip((ink - .2) / .6, 0, 1) * around


def centred(ink: numpy.ndarray) -> numpy.ndarray:
    """A digit that fills its picture, (height, width), in its place in one of 28 x 28 pixels."""
    from scipy import ndimage

    scale = BOX / max(ink.shape)
    height, width = (max(1, round(scale * side)) for side in ink.shape)
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    digit = numpy.asarray(Image.fromarray(ink).resize((width, height), how))
    row, column = (min(max(round(SIDE / 2 - mass), 0), SIDE - side) for mass, side
                   in zip(ndimage.center_of_mass(digit), digit.shape, strict=True))
    image = numpy.zeros((SIDE, SIDE))
    image[row:row + height, column:column + width] = digit / digit.max()
    return image
