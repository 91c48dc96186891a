"""Tests of downloads, by the scripts and by download.sh, from servers on this machine."""

import contextlib
import functools
import hashlib
import http.server
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

from support import datasets, download, pictures
from support.testing import CODE_FOLDER

from test_datasets import DataTest, small_mnist, write_idx


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder. Files in `broken` end too early, in `endless` never, in `slow` some day.

    Of those in `silent` it says nothing for a while, those in `redirected` are where they are, and
    at those in `failing` it fails.
    """

    broken = endless = slow = silent = redirected = failing = ()

    def log_message(self, *arguments):
        """Stay quiet."""

    def do_GET(self):
        name = os.path.basename(self.path)
        if name in self.silent:
            time.sleep(1)
        elif name in self.failing:
            self.send_error(500)
        elif name in self.redirected:
            self.send_response(302)
            self.send_header('Location', self.path)
            self.end_headers()
        else:
            super().do_GET()

    def copyfile(self, source, output):
        name = os.path.basename(self.path)
        if name in self.broken:
            output.write(source.read(20))
            self.close_connection = True
        elif name in self.endless:
            with contextlib.suppress(OSError):
                while True:
                    output.write(bytes(2**16))
        elif name in self.slow:
            with contextlib.suppress(OSError):
                while block := source.read(64):
                    output.write(block)
                    time.sleep(.02)
        else:
            super().copyfile(source, output)

    def send_header(self, keyword, value):
        if keyword != 'Content-Length' or os.path.basename(self.path) not in self.endless:
            super().send_header(keyword, value)


class DownloadTest(DataTest):
    def setUp(self):
        super().setUp()
        self.served = write_idx(self.folder / 'served', self.arrays, compress=True)
        self.sums = {f'mnist/{path.name}': 'md5:' + hashlib.md5(path.read_bytes()).hexdigest()
                     for path in self.served.iterdir()}
        self.last = 'mnist/train-images-idx3-ubyte.gz'
        self.sums[self.last] = self.sums.pop(self.last)
        self.source('mnist', self.sums)
        self.assertLess(download.REACH_SECONDS, 10)  # after which digits take the place of MNIST
        self.enterContext(mock.patch.multiple(download, REACH_SECONDS=1.2, ANSWER_SECONDS=.3))

    def source(self, what, sums):
        sources = {what: (sums, *download.SOURCES[what][1:])}
        self.enterContext(mock.patch.dict(download.SOURCES, sources))

    def serve(self, folder=None, **faults):
        handler = type('FaultyHandler', (Handler,), faults)
        server = http.server.ThreadingHTTPServer(
            ('127.0.0.1', 0), functools.partial(handler, directory=str(folder or self.served)))
        thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.02})
        thread.start()
        for cleanup in (thread.join, server.server_close, server.shutdown):
            self.addCleanup(cleanup)
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
        return {path.relative_to(self.data).as_posix() for path in self.data.rglob('*')}


class ScriptsTest(DownloadTest):
    """What a script does that finds no data."""

    def test_download_once(self):
        self.mirrors(self.serve())
        data, stderr = self.read()
        self.equal(data, self.triple)
        self.assertEqual((data.name, stderr.count('\n')), ('mnist', 1))
        self.assertIn('downloading', stderr)
        self.assertEqual(self.files(), {'mnist', *self.sums})
        self.assertTrue(all(os.stat(path).st_mode & 0o044 for path in self.data.rglob('*')))
        self.mirrors()  # the second time nothing is asked of anybody
        for name in (None, 'mnist.pkl.gz', 'mnist'):
            again, stderr = self.read(name)
            self.assertEqual((again.sha256, stderr), (data.sha256, ''))
        (self.data / self.last).unlink()  # as if it had been cut short
        self.fails('mnist', 'can be reached')
        self.mirrors(self.serve())
        self.assertEqual(self.read('mnist')[0].sha256, data.sha256)

    def test_faulty_mirrors(self):
        other = write_idx(self.folder / 'other', small_mnist(seed=1), compress=True)
        self.enterContext(mock.patch.object(download, 'LARGEST', 10**6))
        self.enterContext(mock.patch.object(download, 'STALL_SECONDS', .5))
        good, last = self.serve(), [os.path.basename(self.last)]
        for mirror, reason in ((self.serve(other), 'not the published file'),
                               (self.serve(broken=last), 'ChunkedEncodingError'),
                               (self.serve(slow=last), 'it is too slow'),
                               (self.serve(endless=last), 'not the published file'),
                               (self.serve(silent=last), ''),
                               (self.serve(redirected=last), 'TooManyRedirects'),
                               (self.serve(failing=last), 'HTTPError')):
            self.mirrors(mirror)
            seconds = .3 if 'slow' in reason else 60
            with mock.patch.object(download, 'WHOLE_SECONDS', seconds):
                self.fails('mnist', reason, mirror)
                self.assertNotIn(self.last, self.files())
                data, stderr = self.read()
            self.assertEqual(data.name, 'digits')
            self.assertIn(reason, stderr)
            self.mirrors(mirror, good)
            self.equal(self.read()[0], self.triple)
            shutil.rmtree(self.data)
        (self.served / last[0]).unlink()
        self.mirrors(self.serve())
        self.fails('mnist', 'HTTPError')

    def test_nobody_answers_in_time(self):
        silent = self.silent()
        self.mirrors(self.closed(), silent, 'no address at all')
        data, stderr = self.read()
        self.assertEqual((data.name, stderr.count('\n'), len(self.files())), ('digits', 1, 1))
        for part in ('NOTICE', 'digits', silent, 'DLT_DATA_DIR'):
            self.assertIn(part, stderr)
        self.mirrors(*[silent] * 9)
        start = time.monotonic()
        self.fails('mnist', 'can be reached')  # by its name it is used, or nothing is
        self.assertLess(time.monotonic() - start, 2.5)
        self.mirrors(silent, self.serve())
        with mock.patch.dict(sys.modules, pooch=None):
            self.fails('mnist', 'pooch', 'install it')
        self.assertEqual(self.read()[0].name, 'mnist')

    def test_unwritable_folder(self):
        self.mirrors(self.serve())
        below_a_file = self.write('file', b'') / 'data'
        refused = mock.Mock(side_effect=PermissionError(13, 'refused'))
        for patch in (mock.patch.object(datasets, 'DATA_FOLDER', below_a_file),
                      mock.patch.object(tempfile, 'TemporaryFile', refused)):
            with mock.patch.object(tempfile, 'tempdir', str(self.work)), patch:
                data, stderr = self.read()
            self.equal(data, self.triple)
            self.assertEqual((data.name, self.files(), os.listdir(self.work)), ('mnist', set(), []))
            self.assertIn('not writable', stderr)

    def test_two_processes_at_once(self):
        script = (
            'import pathlib, sys\n'
            f'sys.path.insert(0, {str(CODE_FOLDER)!r})\n'
            'from support import datasets, download, pictures\n'
            f'datasets.DATA_FOLDER = pathlib.Path({str(self.data)!r})\n'
            f'pictures.MNIST_SPLIT = {pictures.MNIST_SPLIT}\n'
            f'download.SOURCES["mnist"] = ({self.sums!r}, "DLT_MNIST_MIRRORS", "")\n'
            'print(datasets.read("mnist.pkl.gz").sha256)\n'
        )
        self.mirrors(self.serve())
        processes = [subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, text=True) for _ in range(2)]
        results = [process.communicate(timeout=60) for process in processes]
        self.assertEqual({out.strip() for out, _ in results}, {self.read('mnist')[0].sha256})
        self.assertEqual(self.files(), {'mnist', *self.sums})

    def test_tunes(self):
        archive = self.served / 'Nottingham.zip'
        with zipfile.ZipFile(archive, 'w') as tunes_zip:
            tunes_zip.writestr('Nottingham/train/a.mid', b'MThd')
        (self.served / 'wrong.zip').write_bytes(b'wrong')
        url = self.serve()
        known = hashlib.sha256(archive.read_bytes()).hexdigest()
        self.source('Nottingham.zip', {'Nottingham.zip': known})
        os.environ['DLT_NOTTINGHAM_URLS'] = f'{self.closed()} {url}wrong.zip'
        self.fails('Nottingham', 'not the published file', read=datasets.find_tunes)
        self.assertEqual(self.files(), set())
        for urls in (f'{url}wrong.zip {url}Nottingham.zip', url):
            os.environ['DLT_NOTTINGHAM_URLS'] = urls
            files, _ = self.read(None, datasets.find_tunes)
            self.assertEqual((files.name, len(files.train), self.files()),
                             ('Nottingham.zip', 1, {'Nottingham.zip'}))
            shutil.rmtree(self.data)


@unittest.skipIf(os.name == 'nt' or not (shutil.which('curl') or shutil.which('wget')),
                 'download.sh needs a POSIX sh and curl or wget')
class DownloadShTest(DownloadTest):
    def start(self, *arguments):
        """Run a copy of download.sh beside a data/ of its own, from another folder."""
        script = shutil.copy(CODE_FOLDER.parent / 'download.sh', self.folder)
        return subprocess.Popen(['sh', script, *arguments], text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT)

    def result(self, process):
        """The exit status and what was printed."""
        with process:
            output = process.communicate(timeout=60)[0]
        return process.returncode, output

    def test_nothing_wrong_gets_a_name(self):
        url = self.serve(endless=['t10k-labels-idx1-ubyte.gz'])
        self.mirrors(self.closed(), url)
        status, output = self.result(self.start('mnist'))
        self.assertEqual((status, output.count('FAILED')), (1, 4), output)
        for urls in (f'{url}nothing.zip', ''):
            os.environ['DLT_NOTTINGHAM_URLS'] = urls
            self.assertEqual(self.result(self.start('nottingham'))[0], 1)
        self.assertEqual(self.files(), {'mnist'})
        self.assertEqual(self.result(self.start('other'))[0], 2)
        status, output = self.result(self.start('--help'))
        self.assertEqual((status, 'DLT_NOTTINGHAM_URLS' in output), (0, True))

    def test_real_files(self):
        real = Path(self.real_data or self.folder)
        if not all((real / name).exists() for name in self.sums):
            raise unittest.SkipTest('DLT_DATA_DIR has no mnist/ with the four .gz files to serve')
        self.mirrors(self.serve(real / 'mnist'))
        for process in [self.start('mnist') for _ in range(2)]:  # at once
            status, output = self.result(process)
            self.assertEqual(status, 0, output)
        self.assertEqual(self.files(), {'mnist', *self.sums})
        for name in self.sums:
            self.assertEqual((self.data / name).read_bytes(), (real / name).read_bytes())
        changed, missing, *_ = [self.data / name for name in self.sums]
        changed.write_bytes(b'dear to me')
        missing.unlink()
        status, output = self.result(self.start('mnist'))
        self.assertEqual((status, output.count('there already')), (1, 2), output)
        self.assertIn('not the published file', output)
        self.assertEqual((changed.read_bytes(), missing.exists()), (b'dear to me', True))
