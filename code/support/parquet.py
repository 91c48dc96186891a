"""Tables with image files in them, in the Parquet format, as public hubs of data serve them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.errors import UserError
from support.files import check_size
from support.pictures import SYNONYMS, Stored, announce, as_arrays, size_of


def parquet_files(path: Path) -> list[Path]:
    """A file, or all Parquet files below a folder."""
    return sorted(path.rglob('*.parquet')) if path.is_dir() else [path]


def read_parquet(path: Path, image_shape: tuple[int, int] | None = None) -> Stored:
    """Read the images and labels in a Parquet file, or in all those below a folder.

    The names of the classes are taken from where Hugging Face's library keeps them.

    :param path: in a folder, the name of each file, or of a folder that it is in, begins with that
        of its set; a single file is all training set
    :param image_shape: (height, width) to scale to; None for the size of the first image
    :return: images uint8 (n, height, width), in a random order, and labels (n,)
    :raises UserError: when PyArrow is not installed, the columns are not there, an image is broken,
        or all are too large
    """
    try:
        from pyarrow import dataset, types  # optional: large, and needed for nothing else
    except ImportError:
        raise UserError(f'{path}: Parquet is read by PyArrow, which is not installed: '
                        'pip install pyarrow; or give a folder with a folder of images for each '
                        'class.') from None
    files: dict[str, list[Path]] = {}
    for file in parquet_files(path):
        beginning = re.search('(?:^|/)(train|val|test)', file.relative_to(path).as_posix())
        split = beginning[1] if beginning else 'train'
        files.setdefault(SYNONYMS.get(split, split), []).append(file)
    if 'train' not in files:
        raise UserError(f'{path}: has no file to train on: let the name of one begin with train.')
    tables = {split: dataset.dataset(names) for split, names in files.items()}
    schema = tables['train'].schema
    image = next((field.name for field in schema if types.is_struct(field.type)
                  and field.type.get_field_index('bytes') >= 0), None)
    label = next((name for name in schema.names if 'label' in name), None)
    if image is None or label is None:
        raise UserError(f'{path}: has the columns {", ".join(schema.names)[:200]}: give one of '
                        'images, each with its bytes, and one with label in its name.')
    for table in tables.values():
        for fragment in table.get_fragments():
            for group in fragment.row_groups:  # one of them at a time is in memory
                check_size(path, group.total_byte_size)

    known = json.loads((schema.metadata or {}).get(b'huggingface', '{}'))
    classes = known.get('info', {}).get('features', {}).get(label, {}).get('names', [])
    n_rows = {split: table.count_rows() for split, table in tables.items()}
    for name, content, _ in rows(path, tables['train'], image, label):
        image_shape = image_shape or size_of(name, content)
        break
    else:
        raise UserError(f'{path}: has no images to train on: give some.')
    announce(path, sum(n_rows.values()), classes, image_shape)
    return Stored({split: as_arrays(rows(path, table, image, label), n_rows[split], image_shape)
                   for split, table in tables.items()}, tuple(map(str, classes)))


def rows(path: Path, table: Any, image: str, label: str) -> Iterator[tuple[Path, bytes, Any]]:
    """Of each row of a PyArrow dataset a name for messages, the image file, and the label."""
    n = 0
    for batch in table.to_batches(columns=[image, label], batch_size=256, use_threads=False,
                                  fragment_readahead=1):
        contents = batch.column(image).field('bytes').to_pylist()
        for content, value in zip(contents, batch.column(label).to_pylist(), strict=True):
            yield path / f'image {n}', content, value
            n += 1
