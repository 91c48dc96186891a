"""Tests of the notebooks that are made of the chapters."""

import os
import shutil
import subprocess
import sys
import unittest
from unittest import mock

from support.errors import UserError
from support.folders import read_record
from support.testing import CODE_FOLDER, TestCase, printed

import logistic_sgd
from test_scripts import write_data

BOOK = CODE_FOLDER.parent / 'doc'
sys.path.insert(0, str(BOOK))
import notebooks  # noqa: E402

CHAPTER = '''# A chapter
See [an equation](mlp.md#equation-a) and [[Somebody2001]](references.md#somebody2001).
```python
# no heading
```
```pycon
>>> for i in range(2):
...     print(i)
0
1
>>> 1 / 0
Traceback (most recent call last):
ZeroDivisionError: division by zero
>>> 2
2
```
```console
$ python code/mlp.py
... loading data
```
```console
$ python code/mlp.py --dataset digits --n-epochs 1
... loading data
```
**1.** Why?

### Solution

Because

```pycon
>>> 1 + 1
2
```

of that.

**2.** And why not?
'''


class TestNotebooks(TestCase):
    def test_what_becomes_of_a_chapter(self):
        self.assertEqual(list(notebooks.folded(notebooks.cells(CHAPTER))), [
            ('markdown', '# A chapter\nSee [an equation](mlp.ipynb) and [Somebody2001].\n'
                         '```python\n# no heading\n```', False),
            ('code', 'for i in range(2):\n    print(i)', False),
            ('error', '1 / 0', False), ('code', '2', False),
            ('markdown', '```console\n$ python code/mlp.py\n... loading data\n```', False),
            ('code', "script('code/mlp.py --dataset digits --n-epochs 1')", False),
            ('markdown', '**1.** Why?', False),
            ('markdown', '<details><summary>Solution</summary>\n\nBecause\n\n</details>', True),
            ('code', '1 + 1', True),
            ('markdown', '<details><summary>and then</summary>\n\nof that.\n\n</details>', True),
            ('markdown', '**2.** And why not?', False)])

    @unittest.skipIf(notebooks.nbclient is None, 'nbclient (requirements-dev.txt) is not here')
    def test_a_chapter_runs_from_its_first_cell_to_its_last(self):
        # Below the repository, where its first cell finds the scripts.
        folder = BOOK / '_build' / 'test_notebooks'
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        run = subprocess.run([sys.executable, BOOK / 'notebooks.py', folder, '--chapters', 'mlp'],
                             capture_output=True, text=True, cwd=self.folder)
        self.assertEqual(run.returncode, 0, run.stderr)
        made = notebooks.nbformat.read(folder / 'mlp.ipynb', as_version=4)
        cells = [cell for cell in made.cells if cell.cell_type == 'code']
        self.assertEqual([cell.execution_count for cell in cells], list(range(1, len(cells) + 1)))
        printed = ''.join(output.get('text', '') for cell in cells for output in cell.outputs)
        self.assertIn('Optimization complete', printed)
        self.assertTrue((folder / 'images' / 'mlp.svg').exists())

    def test_unknown_chapter(self):
        run = subprocess.run([sys.executable, BOOK / 'notebooks.py', self.folder,
                              '--chapters', 'x'], capture_output=True, text=True)
        self.assertEqual(run.returncode, 1)
        self.assertIn('there are gettingstarted', run.stderr)


class TestWhatANotebookShows(TestCase):
    def test_a_run_with_its_curves_and_how_to_repeat_it(self):
        write_data(self.folder / 'small.npz')
        output = self.folder / 'output'
        with printed(), mock.patch.object(sys, 'argv', ['ipykernel_launcher.py', '-f', 'x']):
            result = logistic_sgd.train(n_epochs=3, batch_size=20, output_folder=str(output),
                                        dataset=str(self.folder / 'small.npz'))
        shown = result._repr_html_()
        self.assertIn(f'<th>test error</th><td>{result.scores["test_error"]}</td>', shown)
        self.assertIn('src="data:image/png;base64,iVBOR', shown)
        record = read_record(output)
        shutil.rmtree(output)
        run = subprocess.run([sys.executable, *record['command']], capture_output=True, text=True,
                             cwd=self.folder, env=os.environ | {'PYTHONPATH': str(CODE_FOLDER)})
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(read_record(output)['scores'], record['scores'])

    def test_a_mistake_in_one_line(self):
        self.assertEqual(UserError('go on with `resume=True`')._render_traceback_(),
                         ['UserError: go on with `resume=True`'])


if __name__ == '__main__':
    unittest.main()
