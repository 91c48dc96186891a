"""Tests of downloads, by the scripts and by download.sh, from servers on this machine."""

import contextlib
import hashlib
import http.server
import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import zipfile
from pathlib import Path
from unittest import mock

from support import datasets, download
from support.testing import CODE_FOLDER
from test_datasets import DataTest, small_mnist, triple_of, write_idx


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder. Files named in `broken` end too early, those in `endless` never."""

    broken = endless = ()

    def log_message(self, *arguments):
        """Stay quiet."""

    def copyfile(self, source, output):
        name = os.path.basename(self.path)
        if name in self.broken:
            output.write(source.read(20))
            self.close_connection = True
        elif name in self.endless:
            with contextlib.suppress(OSError):
                while True:
                    output.write(bytes(2**16))
        else:
            super().copyfile(source, output)

    def send_header(self, keyword, value):
        if keyword != 'Content-Length' or os.path.basename(self.path) not in self.endless:
            super().send_header(keyword, value)


class DownloadTest(DataTest):
    def setUp(self):
        super().setUp()
        self.served = self.folder / 'served'
        self.arrays = small_mnist()
        write_idx(self.served, self.arrays, compress=True)
        self.sums = {path.name: 'md5:' + hashlib.md5(path.read_bytes()).hexdigest()
                     for path in sorted(self.served.iterdir())}
        self.enterContext(mock.patch.object(download, 'MNIST', self.sums))
        self.assertLess(download.REACH_SECONDS, 10)  # after which digits take the place of MNIST
        self.enterContext(mock.patch.object(download, 'REACH_SECONDS', 1.2))
        self.enterContext(mock.patch.object(download, 'ANSWER_SECONDS', .3))

    def serve(self, folder=None, **faults):
        handler = type('FaultyHandler', (Handler,), faults)

        def make_handler(*arguments):
            return handler(*arguments, directory=str(folder or self.served))

        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), make_handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.02})
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f'http://127.0.0.1:{server.server_address[1]}/'

    def silent(self):
        """A host that accepts connections and never says a word."""
        listener = socket.create_server(('127.0.0.1', 0))
        self.addCleanup(listener.close)
        return f'http://127.0.0.1:{listener.getsockname()[1]}/'

    def closed(self):
        with socket.create_server(('127.0.0.1', 0)) as listener:
            return f'http://127.0.0.1:{listener.getsockname()[1]}/'

    def mirrors(self, *mirrors):
        os.environ['DLT_MNIST_MIRRORS'] = ' '.join(mirrors)

    def files(self):
        return sorted(path.relative_to(self.data).as_posix() for path in self.data.rglob('*'))


class ScriptsTest(DownloadTest):
    """What a script does that finds no data."""

    def test_download_once(self):
        self.mirrors(self.serve())
        data, stderr = self.read()
        self.equal(data, triple_of(*self.arrays))
        self.assertEqual((data.name, stderr.count('\n')), ('mnist', 1))
        self.assertIn('downloading', stderr)
        self.assertEqual(self.files(), ['mnist', *(f'mnist/{name}' for name in self.sums)])
        self.assertTrue(all(os.stat(path).st_mode & 0o044 for path in self.data.rglob('*')))
        self.mirrors()  # the second time nothing is asked of anybody
        for name in (None, 'mnist.pkl.gz', 'mnist'):
            again, stderr = self.read(name)
            self.assertEqual((again.sha256, stderr), (data.sha256, ''))
        (self.data / 'mnist' / min(self.sums)).unlink()  # as if it had been cut short
        self.fails('mnist', 'can be reached')
        self.mirrors(self.serve())
        self.assertEqual(self.read('mnist')[0].sha256, data.sha256)

    def test_faulty_mirrors(self):
        other, last = self.folder / 'other', 'train-images-idx3-ubyte.gz'
        write_idx(other, small_mnist(seed=1), compress=True)
        self.enterContext(mock.patch.object(download, 'LARGEST', 10**6))
        good = self.serve()
        for mirror, reason in ((self.serve(other), 'wrong checksum'),
                               (self.serve(broken=[last]), 'ChunkedEncodingError'),
                               (self.serve(endless=[last]), 'more than 1000000 bytes')):
            self.mirrors(mirror)
            self.fails('mnist', reason, mirror)
            self.assertNotIn(f'mnist/{last}', self.files())
            self.assertLessEqual(len(self.files()), 4)
            data, stderr = self.read()
            self.assertEqual(data.name, 'digits')
            self.assertIn(reason, stderr)
            self.mirrors(mirror, good)
            self.equal(self.read()[0], triple_of(*self.arrays))
            shutil.rmtree(self.data)
        (self.served / last).unlink()
        self.mirrors(self.serve())
        self.fails('mnist', 'HTTPError')

    def test_nobody_answers_in_time(self):
        silent = self.silent()
        self.mirrors(self.closed(), silent, 'no address at all')
        data, stderr = self.read()
        self.assertEqual((data.name, stderr.count('\n')), ('digits', 1))
        for part in ('NOTICE', 'digits', silent, 'DLT_DATA_DIR'):
            self.assertIn(part, stderr)
        self.assertEqual(len(self.files()), 1)  # the digits
        self.mirrors(*[silent] * 9)
        start = time.monotonic()
        self.fails('mnist', 'can be reached')  # by its name it is used, or nothing is
        self.assertLess(time.monotonic() - start, 2.5)
        self.mirrors(silent, self.serve())
        self.assertEqual(self.read()[0].name, 'mnist')

    def test_without_pooch(self):
        self.mirrors(self.serve())
        with mock.patch.dict(sys.modules, pooch=None):
            self.fails('mnist', 'pooch', 'install it')
            data, stderr = self.read()
        self.assertEqual(data.name, 'digits')
        self.assertIn('pooch', stderr)

    def test_unwritable_folder(self):
        self.mirrors(self.serve())
        temporary = self.folder / 'temporary'
        temporary.mkdir()
        below_a_file = self.write('file', b'') / 'data'
        refused = mock.Mock(side_effect=PermissionError(13, 'refused'))
        with mock.patch.object(tempfile, 'tempdir', str(temporary)):
            for patch in (mock.patch.object(datasets, 'DATA_FOLDER', below_a_file),
                          mock.patch.object(tempfile, 'TemporaryFile', refused)):
                with patch:
                    data, stderr = self.read()
                self.equal(data, triple_of(*self.arrays))
                self.assertEqual(data.name, 'mnist')
                self.assertIn('not writable', stderr)
        self.assertEqual((self.files(), os.listdir(temporary)), (['mnist'], []))

    def test_two_processes_at_once(self):
        script = (
            'import pathlib, sys\n'
            f'sys.path.insert(0, {str(CODE_FOLDER)!r})\n'
            'from support import datasets, download\n'
            f'datasets.DATA_FOLDER = pathlib.Path({str(self.data)!r})\n'
            f'download.MNIST = {self.sums!r}\n'
            'print(datasets.read("mnist.pkl.gz").sha256)\n'
        )
        self.mirrors(self.serve())
        processes = [subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, text=True) for _ in range(2)]
        results = [process.communicate(timeout=60) for process in processes]
        self.assertEqual([process.returncode for process in processes], [0, 0], results)
        self.assertEqual({out.strip() for out, _ in results}, {self.read('mnist')[0].sha256})
        self.assertEqual(len(self.files()), 5)

    def test_tunes(self):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, 'w') as tunes_zip:
            tunes_zip.writestr('Nottingham/train/a.mid', b'MThd')
        (self.served / 'Nottingham.zip').write_bytes(archive.getvalue())
        (self.served / 'wrong.zip').write_bytes(b'wrong')
        url = self.serve()
        known = {'Nottingham.zip': hashlib.sha256(archive.getvalue()).hexdigest()}
        self.enterContext(mock.patch.object(download, 'NOTTINGHAM', known))
        os.environ['DLT_NOTTINGHAM_URLS'] = f'{self.closed()} {url}wrong.zip'
        self.fails('Nottingham', 'wrong checksum', read=datasets.find_tunes)
        self.assertEqual(self.files(), [])
        for address in (url, f'{url}wrong.zip {url}Nottingham.zip'):
            os.environ['DLT_NOTTINGHAM_URLS'] = address
            with mock.patch.object(datasets, 'DATA_FOLDER', self.write('file', b'') / 'data'):
                files, stderr = self.read(None, datasets.find_tunes)
            self.assertEqual((files.name, len(files.train)), ('Nottingham.zip', 1))
            self.assertIn('not writable', stderr)
        for _ in range(2):
            files, stderr = self.read('Nottingham', datasets.find_tunes)
            self.assertEqual((files.name, self.files()), ('Nottingham.zip', ['Nottingham.zip']))
            os.environ['DLT_NOTTINGHAM_URLS'] = ''


@unittest.skipIf(os.name == 'nt' or not (shutil.which('curl') or shutil.which('wget')),
                 'download.sh needs a POSIX sh and curl or wget')
class DownloadShTest(DownloadTest):
    def script(self, *arguments, **environment):
        """Run a copy of download.sh beside a data/ of its own, from another folder."""
        shutil.copy(CODE_FOLDER.parent / 'download.sh', self.folder)
        return subprocess.Popen(
            ['sh', str(self.folder / 'download.sh'), *arguments], text=True,
            env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def run_script(self, *arguments, **environment):
        with self.script(*arguments, **environment) as process:
            output = process.communicate(timeout=60)[0]
        return process.returncode, output

    def test_nothing_wrong_gets_a_name(self):
        url = self.serve(endless=['t10k-labels-idx1-ubyte.gz'])
        status, output = self.run_script('mnist', DLT_MNIST_MIRRORS=f'{self.closed()} {url}')
        self.assertEqual((status, self.files()), (1, ['mnist']), output)
        self.assertEqual(output.count('FAILED'), 4)
        for urls in (f'{url}nothing.zip', ''):
            status, output = self.run_script('nottingham', DLT_NOTTINGHAM_URLS=urls)
            self.assertEqual((status, self.files()), (1, ['mnist']), output)
        self.assertEqual(self.run_script('other')[0], 2)
        status, output = self.run_script('--help')
        self.assertEqual(status, 0)
        self.assertIn('DLT_NOTTINGHAM_URLS', output)

    def test_real_files(self):
        real = Path(self.real_data or self.folder, 'mnist')
        if not all((real / name).exists() for name in self.sums):
            raise unittest.SkipTest('DLT_DATA_DIR has no mnist/ with the four .gz files to serve')
        url = self.serve(real)
        both = [self.script('mnist', DLT_MNIST_MIRRORS=url) for _ in range(2)]
        for process in both:
            with process:
                output = process.communicate(timeout=60)[0]
            self.assertEqual(process.returncode, 0, output)
        paths = [self.data / 'mnist' / name for name in self.sums]
        self.assertEqual(self.files(), ['mnist', *(f'mnist/{name}' for name in self.sums)])
        for path in paths:
            self.assertEqual(path.read_bytes(), (real / path.name).read_bytes())
        paths[0].write_bytes(b'dear to me')
        paths[1].unlink()
        status, output = self.run_script('mnist', DLT_MNIST_MIRRORS=url)
        self.assertEqual((status, output.count('there already')), (1, 2), output)
        self.assertIn('not the published file', output)
        self.assertEqual(paths[0].read_bytes(), b'dear to me')
        self.assertTrue(paths[1].exists())


if __name__ == '__main__':
    unittest.main()
