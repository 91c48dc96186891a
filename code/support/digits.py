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

from support.errors import UserError

import numpy
from PIL import Image, ImageDraw, ImageFont

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


def make_digits(seed: int = SEED, sizes: tuple[int, int, int] = SIZES
                ) -> list[tuple[numpy.ndarray, numpy.ndarray]]:
    """Draw training, validation and test images; the same seed gives the same bytes.

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
    """The distance fields, float32 (fonts, 10, GLYPH, GLYPH), in units of a digit's height."""
    import matplotlib  # this and SciPy's images are slow to import, and needed but once
    from scipy import ndimage

    folder = os.path.join(matplotlib.get_data_path(), 'fonts', 'ttf')
    try:
        # The basic layout engine, because the other one is not there in every build of Pillow.
        fonts = [ImageFont.truetype(os.path.join(folder, name), GLYPH,
                                    layout_engine=ImageFont.Layout.BASIC)
                 for name in MATPLOTLIB_FONTS] + [ImageFont.load_default(GLYPH)]
    except (OSError, ImportError) as error:
        raise UserError(f'the digits cannot be drawn, a font of matplotlib or Pillow is missing '
                        f'({error}): install both again, or give another data set') from error

    glyphs = numpy.empty((len(fonts), 10, GLYPH, GLYPH), dtype=numpy.float32)
    for f, digit in numpy.ndindex(len(fonts), 10):
        image = Image.new('L', (GLYPH, GLYPH))
        # 'mm' puts the middle of the line there; what is left is centred by mass later.
        ImageDraw.Draw(image).text((GLYPH / 2, GLYPH / 2), str(digit), fill=255, font=fonts[f],
                                   anchor='mm')
        inside = numpy.asarray(image) >= 128
        rows = numpy.flatnonzero(inside.any(axis=1))
        distance = ndimage.distance_transform_edt(inside)
        distance -= ndimage.distance_transform_edt(~inside)
        glyphs[f, digit] = distance / (rows[-1] - rows[0] + 1)
    return glyphs


def draw(rng: numpy.random.RandomState, glyphs: numpy.ndarray,
         labels: numpy.ndarray) -> numpy.ndarray:
    """Draw one image for each label, uint8 (n, 28, 28), from what `glyph_distances` returns."""
    n = len(labels)
    templates = glyphs[rng.randint(len(glyphs), size=n), labels]  # (n, GLYPH, GLYPH)
    field = sampled(templates, *deformed_grid(rng, n))  # (n, CANVAS, CANVAS)

    # The thickness is drawn in pixels of the final image, where the digit is BOX pixels high.
    pen = rng.uniform(-0.1, 1.0, size=(n, 1, 1)).astype(numpy.float32)
    # A light font loses its strokes when it is made thinner by more than they are thick.
    half_stroke = BOX * templates.max(axis=(1, 2))[:, None, None]
    pen = numpy.maximum(pen, 1.25 - half_stroke)
    side, row_mass, column_mass = boxes(BOX * field + pen > 0)

    # Pixel (i, j) of the image shows the canvas at `mass + (pixel - centre) * side / BOX`.
    pixel = numpy.arange(SIDE, dtype=numpy.float32) - (SIDE - 1) / 2
    scale = side / BOX
    field = sampled(field, row_mass + scale * pixel[:, None], column_mass + scale * pixel)

    roughness = rng.normal(0, 0.12, size=field.shape)
    pressure = rng.uniform(0.75, 1, size=(n, 1, 1))
    grey = numpy.clip(0.5 + BOX * field + pen + roughness, 0, 1) * pressure
    return numpy.round(255 * grey).astype(numpy.uint8)


def sampled(fields: numpy.ndarray, rows: numpy.ndarray, columns: numpy.ndarray) -> numpy.ndarray:
    """Values of each field between its entries; outside they are as at the border, and negative."""
    from scipy import ndimage

    which = numpy.arange(len(fields), dtype=numpy.float32)[:, None, None]
    return ndimage.map_coordinates(fields, numpy.broadcast_arrays(which, rows, columns), order=1,
                                   mode='nearest')


def deformed_grid(rng: numpy.random.RandomState, n: int) -> list[numpy.ndarray]:
    """Which rows and columns of its glyph each canvas shows: affine map and elastic noise."""
    from scipy import ndimage

    angle = rng.normal(0, 0.12, size=n)  # in radians
    slant = rng.normal(0, 0.2, size=n)
    stretch = numpy.exp(rng.normal(0, 0.14, size=n))  # of the height, at the expense of the width
    # `A` takes a direction on the canvas to one in the picture; its determinant is 1.
    cos, sin = numpy.cos(angle), numpy.sin(angle)
    A = numpy.array([[cos / stretch, sin / stretch],
                     [(slant * cos - sin) * stretch, (slant * sin + cos) * stretch]], numpy.float32)

    # Neighbours must move together, or the stroke would tear: noise smoothed over a quarter of the
    # digit and scaled to the wanted standard deviation, in pixels of the picture.
    noise = rng.normal(size=(2, n, CANVAS, CANVAS)).astype(numpy.float32)
    noise = ndimage.gaussian_filter(noise, (0, 0, 5, 5), mode='wrap', truncate=3)
    noise *= rng.uniform(1, 5, size=(n, 1, 1)).astype(numpy.float32) / noise.std()

    # The canvas is a quarter wider than the picture, so that a slanted digit keeps its corners.
    u = (numpy.arange(CANVAS, dtype=numpy.float32) - (CANVAS - 1) / 2) * (1.25 * GLYPH / CANVAS)
    return [(GLYPH - 1) / 2 + a[:, None, None] * u[:, None] + b[:, None, None] * u + shift
            for (a, b), shift in zip(A, noise, strict=True)]


def boxes(ink: numpy.ndarray) -> list[numpy.ndarray]:
    """Longer side of the bounding box, row and column of the centre of mass, float32 (n, 1, 1)."""
    sides, centres = [], []
    for axis in (2, 1):
        profile = ink.sum(axis=axis, dtype=numpy.float32)  # mass of each row, then of each column
        first = (profile > 0).argmax(axis=1)
        last = profile.shape[1] - 1 - (profile[:, ::-1] > 0).argmax(axis=1)
        sides.append(last - first + 1)
        position = numpy.arange(profile.shape[1], dtype=numpy.float32)
        centres.append(profile @ position / profile.sum(axis=1))
    return [x.astype(numpy.float32)[:, None, None] for x in (numpy.maximum(*sides), *centres)]
