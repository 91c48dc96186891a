"""A data set of handwriting-like digits that the project makes itself, for want of MNIST.

Each image starts from a digit of one of the fonts that Pillow and matplotlib carry, kept as a
*signed distance field*: for every point the distance to the outline, positive inside. A distance
field is smooth, so that it survives being resampled; and the stroke is made thicker or thinner by
adding a number to it. The steps, with N images at once:

1. sample the field of a glyph through a random affine map and a random elastic displacement
   (smoothed noise; Simard, Steinkraus and Platt, ICDAR 2003);
2. scale the result to a box of 20 x 20 pixels and put its centre of mass in the centre of 28 x 28,
   as was done for MNIST (LeCun et al., 1998);
3. turn distances into grey levels, with random thickness, roughness of the edge and pressure.
"""

import os
from typing import Any

import numpy

from support.errors import UserError

SIZES = (5000, 1000, 1000)  # training, validation, test
SEED = 20081
VERSION = 1  # to be raised with every change of what is drawn: caches of it are made anew then
SIDE = 28  # of an image
BOX = 20  # the digit itself fits into a box of this side
GLYPH = 96  # side of the picture from which a glyph's distance field is made
CANVAS = 40  # side of the canvas on which a glyph is deformed, before it is scaled to the box

# No monospaced font: their zeros carry a dot or a bar, which nobody writes.
MATPLOTLIB_FONTS = (
    'DejaVuSans.ttf', 'DejaVuSans-Oblique.ttf', 'DejaVuSans-Bold.ttf', 'DejaVuSerif.ttf',
    'DejaVuSerif-Italic.ttf', 'STIXGeneral.ttf', 'STIXGeneralItalic.ttf', 'STIXGeneralBol.ttf',
    'cmr10.ttf', 'cmss10.ttf', 'cmtt10.ttf', 'cmb10.ttf',
)


def make_digits(
    seed: int = SEED, sizes: tuple[int, int, int] = SIZES
) -> list[tuple[numpy.ndarray, numpy.ndarray]]:
    """Draw training, validation and test images; the same seed gives the same bytes.

    :param seed: seed of the `RandomState` that everything is drawn from
    :param sizes: number of images in the training, the validation and the test set
    :returns: three pairs (images, labels): uint8 (n, 28, 28), white on black, and uint8 (n,);
        each class has the same share of each set, in random order
    :raises UserError: where the fonts cannot be read
    """
    rng = numpy.random.RandomState(seed)
    glyphs = glyph_distances()
    sets = []
    for size in sizes:
        labels = rng.permutation(numpy.arange(size) % 10)
        # A thousand at a time: memory stays small, and the arrays near the processor.
        images = [draw(rng, glyphs, labels[i:i + 1000]) for i in range(0, size, 1000)]
        sets.append((numpy.concatenate(images), labels.astype(numpy.uint8)))
    return sets


def glyph_distances() -> numpy.ndarray:
    """Signed distances to the outlines of every digit in every font.

    :returns: float32 (n_fonts, 10, GLYPH, GLYPH), in units of the digit's height, positive inside
    :raises UserError: where a font is missing, or has no digits
    """
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont
    from scipy import ndimage

    folder = os.path.join(matplotlib.get_data_path(), 'fonts', 'ttf')
    # The basic layout engine, because the other one is not there in every build of Pillow.
    layout = ImageFont.Layout.BASIC
    try:
        fonts: list[Any] = [
            ImageFont.truetype(os.path.join(folder, name), GLYPH, layout_engine=layout)
            for name in MATPLOTLIB_FONTS
        ]
        fonts.append(ImageFont.load_default(GLYPH))
    except (OSError, ImportError) as error:
        raise UserError(
            f'the digits cannot be drawn, a font of matplotlib or Pillow is missing ({error}): '
            'install both again, or give a data set by its path'
        ) from error

    glyphs = numpy.empty((len(fonts), 10, GLYPH, GLYPH), dtype=numpy.float32)
    for f, font in enumerate(fonts):
        for digit in range(10):
            image = Image.new('L', (GLYPH, GLYPH))
            # 'mm' puts the middle of the line there; what is left is centred by mass later.
            ImageDraw.Draw(image).text(
                (GLYPH / 2, GLYPH / 2), str(digit), fill=255, font=font, anchor='mm'
            )
            inside = numpy.asarray(image) >= 128
            rows = numpy.flatnonzero(inside.any(axis=1))
            if len(rows) == 0:
                raise UserError(
                    f'the digits cannot be drawn, {font.getname()} has no {digit}: '
                    'install matplotlib and Pillow again, or give a data set by its path'
                )
            distance = ndimage.distance_transform_edt(inside)
            distance -= ndimage.distance_transform_edt(~inside)
            glyphs[f, digit] = distance / (rows[-1] - rows[0] + 1)
    return glyphs


def draw(rng: numpy.random.RandomState, glyphs: numpy.ndarray,
         labels: numpy.ndarray) -> numpy.ndarray:
    """Draw one image for each label.

    :param glyphs: what `glyph_distances` returns
    :param labels: the digits to draw, int (n,)
    :returns: uint8 (n, 28, 28)
    """
    from scipy import ndimage

    n = len(labels)
    fonts = rng.randint(len(glyphs), size=n)
    templates = glyphs[fonts, labels]  # (n, GLYPH, GLYPH)
    image_index = numpy.arange(n, dtype=numpy.float32)[:, None, None]

    rows, columns = deformed_grid(rng, n)
    which = numpy.broadcast_to(image_index, rows.shape)
    # Outside of the picture the distance is as at its border: the nearest value is negative too.
    field = ndimage.map_coordinates(templates, [which, rows, columns], order=1, mode='nearest')

    # The thickness is drawn in pixels of the final image, where the digit is BOX pixels high.
    pen = rng.uniform(-0.1, 1.0, size=(n, 1, 1)).astype(numpy.float32)
    # A light font loses its strokes when it is made thinner by more than they are thick.
    half_stroke = BOX * templates.max(axis=(1, 2))[:, None, None]
    pen = numpy.maximum(pen, 1.25 - half_stroke)
    ink = BOX * field + pen > 0  # (n, CANVAS, CANVAS)
    side, row_mass, column_mass = boxes(ink)

    # Pixel (i, j) of the image shows the canvas at `mass + (pixel - centre) * side / BOX`.
    pixel = numpy.arange(SIDE, dtype=numpy.float32) - (SIDE - 1) / 2
    scale = side / BOX
    rows = row_mass[:, None, None] + scale[:, None, None] * pixel[:, None]
    columns = column_mass[:, None, None] + scale[:, None, None] * pixel
    which, rows, columns = numpy.broadcast_arrays(image_index, rows, columns)
    field = ndimage.map_coordinates(field, [which, rows, columns], order=1, mode='nearest')

    roughness = rng.normal(0, 0.12, size=field.shape)
    pressure = rng.uniform(0.75, 1, size=(n, 1, 1))
    grey = numpy.clip(0.5 + BOX * field + pen + roughness, 0, 1) * pressure
    return numpy.round(255 * grey).astype(numpy.uint8)


def deformed_grid(rng: numpy.random.RandomState, n: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Where in the picture of its glyph each point of a canvas looks: affine map and elastic noise.

    :returns: row and column coordinates, each float32 (n, CANVAS, CANVAS)
    """
    from scipy import ndimage

    angle = rng.normal(0, 0.12, size=n)  # in radians
    slant = rng.normal(0, 0.2, size=n)
    stretch = numpy.exp(rng.normal(0, 0.14, size=n))  # of the height, at the expense of the width
    # `A` takes a direction on the canvas to one in the picture; its determinant is 1.
    cos, sin = numpy.cos(angle), numpy.sin(angle)
    A = numpy.empty((n, 2, 2), dtype=numpy.float32)
    A[:, 0, 0] = cos / stretch
    A[:, 0, 1] = sin / stretch
    A[:, 1, 0] = (slant * cos - sin) * stretch
    A[:, 1, 1] = (slant * sin + cos) * stretch

    # Neighbours must move together, or the stroke would tear: noise smoothed over a quarter of the
    # digit and scaled to the wanted standard deviation, in pixels of the picture.
    noise = rng.normal(size=(2, n, CANVAS, CANVAS)).astype(numpy.float32)
    noise = ndimage.gaussian_filter(noise, (0, 0, 5, 5), mode='wrap', truncate=3)
    noise *= rng.uniform(1, 5, size=(n, 1, 1)).astype(numpy.float32) / noise.std()

    # The canvas is a quarter wider than the picture, so that a slanted digit keeps its corners.
    step = 1.25 * GLYPH / CANVAS
    u = (numpy.arange(CANVAS, dtype=numpy.float32) - (CANVAS - 1) / 2) * step
    u, v = u[:, None], u[None, :]
    middle = (GLYPH - 1) / 2
    rows = middle + A[:, 0, 0, None, None] * u + A[:, 0, 1, None, None] * v + noise[0]
    columns = middle + A[:, 1, 0, None, None] * u + A[:, 1, 1, None, None] * v + noise[1]
    return rows, columns


def boxes(ink: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """The size of each digit and where its centre of mass lies.

    :param ink: which pixels belong to the digit, bool (n, height, width)
    :returns: the longer side of the bounding box, the row and the column of the centre of mass,
        each float32 (n,)
    """
    sides, centres = [], []
    for axis in (2, 1):
        profile = ink.sum(axis=axis, dtype=numpy.float32)  # mass of each row, then of each column
        position = numpy.arange(profile.shape[1], dtype=numpy.float32)
        first = (profile > 0).argmax(axis=1)
        last = profile.shape[1] - 1 - (profile[:, ::-1] > 0).argmax(axis=1)
        sides.append(last - first + 1)
        centres.append(profile @ position / profile.sum(axis=1))
    return numpy.maximum(*sides).astype(numpy.float32), *centres
