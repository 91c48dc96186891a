"""Make notebooks of the chapters: ``python doc/notebooks.py FOLDER``, or ``make notebooks``.

Sphinx writes the chapters as Markdown. What begins with >>> in them becomes code; so does a short
command on the project's own digits; listings of the scripts stay to be read. Solutions are folded.
Then each notebook is run from its first cell to its last, so that its outputs are those of this
machine. The first cell finds the scripts, or fetches them from the address of a repository.
"""

import doctest
import itertools
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'code'))

from support import command_line
from support.errors import UserError
from support.folders import written_atomically

import tyro

try:
    import nbclient
    import nbformat
except ImportError:
    nbclient = None

BOOK = Path(__file__).resolve().parent
CHAPTERS = ['gettingstarted', 'engine', 'logreg', 'mlp', 'optimisers', 'lenet', 'dA', 'cA', 'SdA',
            'rbm', 'likelihood', 'DBN', 'hmc', 'rnnrbm', 'vae', 'utilities']
SECONDS = 600  # that a cell may take
# As in conf.py, but for the theme, MathJax and numbers of figures.
EXTENSIONS = ('sphinx.ext.autodoc', 'sphinx.ext.autosummary', 'sphinx.ext.mathjax', 'sphinx_design',
              'book', 'sphinx_markdown_builder')
FENCE = re.compile(r'^( *)```(\w*)\n(.*?)^\1```\n', re.MULTILINE | re.DOTALL)
BEGIN = re.compile(r'^#+ |^\*\*\d+\.\*\*', re.MULTILINE)  # of a section, or of an exercise
FIRST_CELL = '''\
# Where the scripts are: above this notebook, or else in a repository, which is then fetched.
REPOSITORY = ''  # its address

import subprocess
import sys
from pathlib import Path

%matplotlib inline
found = [folder for folder in (Path.cwd(), *Path.cwd().parents, Path.cwd() / 'tutorials')
         if (folder / 'code' / 'logistic_sgd.py').exists()]
if found:
    root = found[0]
else:
    root = Path.cwd() / 'tutorials'
    subprocess.run(['git', 'clone', '--depth', '1', REPOSITORY, root], check=True)
    subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', '-r', root / 'requirements.txt'],
                   check=True)
sys.path[:0] = [str(root / 'code'), str(root / 'code' / 'hmc')]


def script(command):
    """Run a script, and print what it prints."""
    name, *arguments = command.split()
    run = subprocess.run([sys.executable, root / name, *arguments], capture_output=True, text=True)
    print(run.stdout or run.stderr)'''


def as_markdown(folder: Path) -> None:
    """Let Sphinx write the book as Markdown.

    :raises UserError: when that fails
    """
    run = subprocess.run(
        [sys.executable, '-m', 'sphinx', '-q', '-b', 'markdown', '-d', folder / 'doctrees',
         '-D', f'extensions={",".join(EXTENSIONS)}', BOOK, folder], capture_output=True, text=True)
    if run.returncode:
        raise UserError(f'the book could not be written as Markdown: {run.stderr.strip()}')


def code_cells(session: str) -> Iterator[tuple[str, str]]:
    """What was typed in a session; where it ends in an error, in a cell of its own."""
    for raises, examples in itertools.groupby(
            doctest.DocTestParser().get_examples(session), lambda example: bool(example.exc_msg)):
        sources = [example.source.rstrip('\n') for example in examples]
        yield from (('error', source) for source in sources) if raises else (
            ('code', source) for source in ['\n'.join(sources)])


def cells(text: str) -> Iterator[tuple[str, str]]:
    """The cells of a chapter: 'markdown', 'code', or 'error' for code that raises one; and what is
    in them."""
    text = re.sub(r'\((\w+)\.md(#[\w-]*)?\)',
                  lambda link: f'({link[1]}.ipynb)' if link[1] in CHAPTERS else '()', text)
    text = re.sub(r'\[((?:[^][]|\[[^]]*\])+)\]\(\)', r'\1', text)  # links to nowhere
    # Places that nothing leads to, and what only runs in the page.
    text = re.sub(r'<a id="(?!equation).*?"></a>\n|<div class="live-stage".*?</div>', '', text)
    end = 0
    for fence in FENCE.finditer(text):
        made: list[tuple[str, str]] = []
        if fence[2] == 'pycon':
            made = list(code_cells(fence[3]))
        elif command := re.match(r'\$ python (code/.* digits .*)', fence[3]):
            made = [('code', f'script({command[1]!r})')]
        if made:
            yield 'markdown', text[end:fence.start()]
            yield from made
            end = fence.end()
    yield 'markdown', text[end:]


def folded(pieces: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str, bool]]:
    """The same, with solutions and answers folded; the last item tells whether a cell is in one."""
    is_inside = False
    for kind, text in pieces:
        if kind != 'markdown':
            yield kind, text, is_inside
            continue
        listings = [fence.span() for fence in FENCE.finditer(text)]
        starts = [0, *(begin.start() for begin in BEGIN.finditer(text) if begin.start() and not any(
            first < begin.start() < last for first, last in listings))]
        for part in map(text.__getitem__, map(slice, starts, [*starts[1:], None])):
            heading = re.match(r'#+ (Solution|Answer)\n', part)
            begins = BEGIN.match(part)
            is_inside = bool(heading) or is_inside and not begins
            if heading:
                part = part[heading.end():]
            if part.strip() and is_inside:
                summary = heading[1] if heading else 'and then'
                part = f'<details><summary>{summary}</summary>\n\n{part.strip()}\n\n</details>'
            if part.strip():
                yield kind, part.strip(), is_inside


def notebook(text: str) -> 'nbformat.NotebookNode':
    """A chapter in Markdown as a notebook."""
    made = [nbformat.v4.new_code_cell(FIRST_CELL)]
    for kind, content, is_folded in folded(cells(text)):
        if kind == 'markdown':
            made.append(nbformat.v4.new_markdown_cell(content))
        else:
            made.append(nbformat.v4.new_code_cell(content, metadata={
                **({'jupyter': {'source_hidden': True}} if is_folded else {}),
                **({'tags': ['raises-exception']} if kind == 'error' else {})}))
    for number, cell in enumerate(made):
        cell['id'] = f'cell-{number}'  # not at random
    return nbformat.v4.new_notebook(cells=made, metadata={'kernelspec': {
        'name': 'python3', 'language': 'python', 'display_name': 'Python 3'}})


def main(folder: Annotated[Path, tyro.conf.Positional], chapters: tuple[str, ...] = (),
         execute: bool = True) -> None:
    """Make notebooks of the chapters, and run them.

    For example::

        python doc/notebooks.py notebooks
        python doc/notebooks.py notebooks --chapters mlp dA

    :param folder: where they go, with the pictures beside them
    :param chapters: which; all when left out
    :param execute: run them, so that they have outputs
    """
    if nbclient is None:
        raise UserError('nbclient or nbformat cannot be imported: python -m pip install -r '
                        f'{BOOK.parent / "requirements-notebooks.txt"}')
    if unknown := set(chapters) - set(CHAPTERS):
        raise UserError(f'`chapters` has {", ".join(unknown)}: there are {", ".join(CHAPTERS)}')
    markdown = folder / 'markdown'
    markdown.mkdir(parents=True, exist_ok=True)
    as_markdown(markdown)
    shutil.copytree(BOOK / 'images', folder / 'images', dirs_exist_ok=True)
    for name in chapters or CHAPTERS:
        made = notebook((markdown / f'{name}.md').read_text(encoding='utf-8'))
        if execute:
            try:
                nbclient.NotebookClient(made, timeout=SECONDS, resources={
                    'metadata': {'path': str(folder)}}).execute()
            except nbclient.exceptions.CellExecutionError as error:
                raise UserError(f'{name}: {error}') from None
        with written_atomically(folder / f'{name}.ipynb') as file:
            file.write(nbformat.writes(made).encode())
        print(f'{folder / name}.ipynb', flush=True)
    shutil.rmtree(markdown)


if __name__ == '__main__':
    command_line.main(main)
