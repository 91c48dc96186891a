"""RNN-RBM: learns from MIDI files what music is like, and makes up new tunes.

The model, an RBM whose biases a recurrent network moves from frame to frame, is in
:mod:`rnnrbm_model`. Here are its training on tunes that are cut into pieces, and its samples.

References:
    - N. Boulanger-Lewandowski, Y. Bengio, P. Vincent, "Modeling temporal dependencies in
      high-dimensional sequences: application to polyphonic music generation and transcription",
      2012
    - R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural
      networks", 2013 (clipping the gradient)
    - G. Hinton, "A practical guide to training restricted Boltzmann machines", 2010, section 8,
      and A. Saxe, J. McClelland, S. Ganguli, "Exact solutions to the nonlinear dynamics of learning
      in deep linear neural networks", 2014 (where to begin: biases, orthogonal weights)
"""

import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from support import checkpoints, command_line, datasets, draws, engine, training
from support.audio import LONGEST, wavwrite
from support.checkpoints import Run, resumable
from support.errors import UserError, check, choose, notice
from support.folders import OutputFolder, read_record, written_atomically
from support.midi import (
    Tune,
    check_resolution,
    in_all_keys,
    midiwrite,
    read_all,
    read_tune,
    transposed,
)
from support.optimisers import OPTIMISERS, clipped, momentum_updates
from support.sequences import Subsequences, TuneData
from support.tiles import save_piano_roll

import numpy
import pytensor as theano
import pytensor.tensor as T

from frame_likelihood import Validation
from rbm import base_rate_biases
from rnnrbm_model import SEED, Parameters, build_rbm, build_rnnrbm, shared_zeros

__all__ = ['RnnRbm', 'build_rbm', 'build_rnnrbm', 'generate', 'load', 'train']

DT = 0.3  # seconds in a time step, if it is not a part of a beat
TEMPO = 120  # beats a minute, at which tunes in beats are played when nothing else is said
STEPS_TO_GENERATE = 200
MOST_STEPS_TO_GENERATE = 10_000
CLIP_OF_ADAM = 5.
FEW_UPDATES = 200_000  # half of those of a default run on Nottingham
VALIDATION_TEMPERATURES = 1000
SUBSEQUENCES_PER_CALL = 200  # between two chances to interrupt RnnRbm.train


class RnnRbm:
    """An RNN-RBM that learns from MIDI files and writes MIDI files.

    For the parameters see :func:`train`.

    :raises UserError: when the settings cannot be
    """

    def __init__(self, n_hidden: int = 150, n_hidden_recurrent: int = 100, lr: float = 0.001,
                 r: tuple[int, int] = (21, 109), dt: float = DT, k: int = 15,
                 momentum: float = 0., clip: float | None = None, learn_u0: bool = False,
                 transpose: bool = False, seed: int = SEED, steps_per_beat: int | None = None,
                 optimiser: str = 'sgd'):
        check_resolution(r, dt, steps_per_beat)
        if steps_per_beat is not None and dt != DT:
            raise UserError(f'`dt` is {dt} seconds and `steps_per_beat` {steps_per_beat}: give one '
                            'of the two')
        if clip is None:
            clip = CLIP_OF_ADAM if optimiser == 'adam' else 0.
        check(0, lr=lr, clip=clip, seed=seed)
        check(0, 0.9999, momentum=momentum)
        check(1, n_hidden=n_hidden, n_hidden_recurrent=n_hidden_recurrent)
        self.r, self.dt, self.transpose = (r[0], r[1]), dt, transpose
        self.steps_per_beat = steps_per_beat
        self.lr, self.clip, self.k, self.seed, self.optimiser = lr, clip, k, seed, optimiser
        self.optimiser_updates = choose(OPTIMISERS, optimiser=optimiser)
        if optimiser == 'sgd':
            self.optimiser_updates = functools.partial(momentum_updates, momentum=momentum)
        elif momentum:
            raise UserError(f'`momentum` belongs to `optimiser` sgd: leave it out with {optimiser}')
        rng = numpy.random.RandomState(seed)
        self.theano_rng = draws.RandomStreams(rng.randint(2 ** 30))
        self.parameters = p = Parameters.drawn(rng, r[1] - r[0], n_hidden, n_hidden_recurrent,
                                               learn_u0)
        self.params = p.all()
        self.v, self.mask = T.matrix('v'), T.vector('mask')
        self.v_sample, self.cost, self.monitor, self.updates_train = build_rbm(
            self.v, p.W, *p.biases(p.states_before(self.v)), k, self.theano_rng, self.mask)
        self.u = shared_zeros(n_hidden_recurrent, name='u')
        self.next_frame = engine.function([T.lscalar('t')], *p.next_frame(self.u, self.theano_rng))

    def read(self, files: Iterable[Any]) -> list[numpy.ndarray]:
        """Piano-rolls of MIDI files, uint8 (time steps, r[1] - r[0]); broken ones are left out."""
        return list(map(self.in_its_key, read_all(files, self.r, self.dt, self.steps_per_beat)))

    def read_one(self, file: str | os.PathLike) -> numpy.ndarray:
        """The same of one file.

        :raises UserError: when it is broken
        """
        return self.in_its_key(read_tune(file, self.r, self.dt, self.steps_per_beat))

    def in_its_key(self, tune: Tune) -> numpy.ndarray:
        """The piano-roll of a tune, transposed if those that the model learns from are."""
        return transposed(tune.piano_roll, self.r) if self.transpose else tune.piano_roll

    def begin_well(self, rolls: Sequence[numpy.ndarray]) -> None:
        """Let each note be as probable as it is frequent in the tunes, and the recurrent state turn
        without growing or fading: bv are log-odds, and Wuu is orthogonal.

        :param rolls: each (time steps, n_visible)
        """
        p, floatX = self.parameters, theano.config.floatX
        p.bv.set_value(base_rate_biases(numpy.concatenate(rolls)).astype(floatX))
        drawn = numpy.random.RandomState(self.seed).normal(size=p.Wuu.get_value().shape)
        p.Wuu.set_value(numpy.linalg.qr(drawn).Q.astype(floatX))

    def training_function(self, subsequences: Subsequences, length: int) -> engine.Step:
        """One step of training on a piece of this length, with a learning rate: the monitor."""
        index = T.lscalar('index')  # of a piece
        lr = T.scalar('lr')
        gradients = T.grad(self.cost, self.params, consider_constant=[self.v_sample])
        if self.clip:
            gradients = clipped(gradients, self.clip)
        updates = self.optimiser_updates(self.params, gradients, lr)
        frames, mask = map(engine.shared_data, (subsequences.frames, subsequences.mask))
        return engine.function(
            inputs=[index, lr], outputs=self.monitor, updates=updates + self.updates_train,
            givens={self.v: engine.minibatch(frames, index, length),
                    self.mask: engine.minibatch(mask, index, length)})

    def pretraining_function(self, rolls: Sequence[numpy.ndarray], lr: float) -> engine.Step:
        """One step of training W, bv and bh as an RBM of 100 single frames, whatever came before.

        :param rolls: each (time steps, n_visible)
        """
        index, v = T.lscalar('index'), T.matrix('v')
        frames = numpy.concatenate(rolls)
        # In the order of the tunes, a minibatch would hold little but repetitions.
        frames = frames[numpy.random.RandomState(self.seed).permutation(len(frames))]
        W, bv, bh = params = self.params[:3]
        v_sample, cost, monitor, updates = build_rbm(v, W, bv, bh, self.k, self.theano_rng)
        gradients = T.grad(cost, params, consider_constant=[v_sample])
        batch_size = min(100, len(frames))
        return engine.function(
            inputs=[index], outputs=monitor,
            updates=momentum_updates(params, gradients, lr) + updates,
            givens={v: engine.minibatch(engine.shared_data(frames), index, batch_size)})

    def train(self, files: Iterable[Any], batch_size: int = 100, num_epochs: int = 200) -> None:
        """Train on MIDI files, without a folder for checkpoints; Ctrl-C ends it early.

        :param files: paths, in any order
        :param batch_size: frames in a subsequence; backpropagation goes back no further
        """
        rolls = self.read(sorted(files, key=str))
        if self.optimiser == 'adam':
            self.begin_well(rolls)
        subsequences = Subsequences.cut(rolls, batch_size)
        step = self.training_function(subsequences, batch_size)
        try:
            for epoch in range(num_epochs):
                order = subsequences.order(self.seed, epoch)
                # In parts, since Ctrl-C has to wait for the end of a call.
                monitors = [step.over(order[first:last], lr=self.lr) for first, last
                            in training.parts(len(order), SUBSEQUENCES_PER_CALL)]
                monitor = float(numpy.mean(numpy.concatenate(monitors), dtype='float64'))
                training.say(report(epoch, num_epochs, monitor))
        except KeyboardInterrupt:
            print('Interrupted: the model is as the last update has left it')

    @functools.cached_property
    def hear(self) -> Callable[[numpy.ndarray], Any]:
        """A function that takes one frame, (n_visible,), into the recurrent state."""
        v_t = T.vector('v_t')
        return theano.function([v_t], updates=[(self.u, self.parameters.next_state(v_t, self.u))])

    def sample(self, n_steps: int = STEPS_TO_GENERATE,
               primer: numpy.ndarray | None = None) -> numpy.ndarray:
        """A new piano-roll, uint8 (n_steps, r[1] - r[0]); the next call gives another one.

        :param primer: what the model hears before it goes on, (time steps, r[1] - r[0])
        """
        u0 = self.parameters.u0
        self.u.set_value(numpy.zeros_like(self.u.get_value()) if u0 is None else u0.get_value())
        for frame in () if primer is None else primer.astype(theano.config.floatX):
            self.hear(frame)
        return self.next_frame.over(range(n_steps)).astype('uint8')

    def generate(self, filename: str | os.PathLike, show: bool = True,
                 n_steps: int = STEPS_TO_GENERATE, primer: numpy.ndarray | None = None,
                 tempo: float | None = None, instrument: int | None = None) -> None:
        """Write a new tune as a MIDI file, and its sound into a WAV file of the same name.

        :param show: also draw its piano-roll, into a PNG of the same name
        :param n_steps: time steps to make up
        :param primer: what the tune begins with, (time steps, r[1] - r[0])
        :param tempo: beats a minute; without ``steps_per_beat``, every time step is a beat
        :param instrument: see :func:`support.midi.midiwrite`
        """
        piano_roll = self.sample(n_steps, primer)
        if primer is not None:
            piano_roll = numpy.concatenate([primer, piano_roll])
        if tempo is None and self.steps_per_beat is not None:
            tempo = TEMPO
        dt = self.dt if tempo is None else 60 / tempo / (self.steps_per_beat or 1)
        path = Path(filename)
        with written_atomically(path) as file:
            midiwrite(file, piano_roll, self.r, dt, self.steps_per_beat, instrument)
        if len(piano_roll) * dt <= LONGEST:
            with written_atomically(path.with_suffix('.wav'), durable=False) as file:
                wavwrite(file, piano_roll, self.r, dt)
        else:
            notice(f'{path.with_suffix(".wav")} would last more than {LONGEST} seconds, and is not '
                   'written')
        if show:
            save_piano_roll(path.with_suffix('.png'), piano_roll, self.r, dt)


def report(epoch: int, num_epochs: int, monitor: float) -> str:
    """The line that is printed after an epoch, counted from 0."""
    return f'Epoch {epoch + 1}/{num_epochs} {monitor}'


def write_samples(model: RnnRbm, output: OutputFolder, numbers: Iterable[int],
                  **how: Any) -> None:
    """Write ``sample1.mid``, ``sample1.wav``, ``sample1.png`` and so on.

    :param how: see :meth:`RnnRbm.generate`
    """
    for i in numbers:
        for kind in ('png', 'wav', 'mid'):
            path = output.file(f'sample{i}.{kind}')
        model.generate(path, **how)


def load(output_folder: str, seed: int | None = None, n_samples: int = 0) -> RnnRbm:
    """The model that a run of this script has left in its folder.

    :param seed: of its samples; None for that of the run, plus ``n_samples``
    :param n_samples: how many there are, so that the next ones are others
    :raises UserError: when there is none
    """
    return checkpoints.load(output_folder, lambda **settings: RnnRbm(
        **settings | {'seed': settings['seed'] + n_samples if seed is None else seed}))


def generate(generate: int = 2, length: int = STEPS_TO_GENERATE, primer: str | None = None,
             tempo: float | None = None, instrument: int | None = None,
             output_folder: str = 'rnnrbm_output', seed: int | None = None) -> None:
    """Let a trained model make up more tunes, beside those that are there.

    Each is a MIDI file, a WAV file to listen to, and a picture.

    For example::

        python code/rnnrbm.py --generate 5 --output-folder rnnrbm_output
        python code/rnnrbm.py --generate 3 --length 400 --primer my.mid --tempo 120 --instrument 74

    :param generate: write so many tunes by the model in the output folder, and train nothing
    :param length: time steps that are made up
    :param primer: a MIDI file that the model hears first, and every tune begins with
    :param tempo: beats a minute; for a model trained with --dt, every time step is a beat
    :param instrument: for players of MIDI, a number in the list of General MIDI: 1 is a piano, 74
        a flute
    :param output_folder: of a run
    :param seed: of the tunes; without one they are others each time
    """
    check(1, generate=generate)
    check(1, MOST_STEPS_TO_GENERATE, length=length)
    check(10, 1000, tempo=TEMPO if tempo is None else tempo)
    check(1, 128, instrument=1 if instrument is None else instrument)
    read_record(output_folder)  # is there one?
    with OutputFolder(output_folder) as output:
        names = [re.fullmatch(r'sample(\d{1,9})\.mid', name) for name in output.record['files']]
        last = max((int(name[1]) for name in names if name), default=0)
        model = load(output_folder, seed, last)
        numbers = range(last + 1, last + generate + 1)
        write_samples(model, output, numbers, n_steps=length, tempo=tempo, instrument=instrument,
                      primer=None if primer is None else model.read_one(primer))
    print(f'New in {output_folder}, each as .mid, .wav and .png: '
          + ', '.join(f'sample{i}' for i in numbers))


@resumable
def train(lr: float = 0.001, num_epochs: int = 200, dataset: str | None = None,
          batch_size: int = 100, n_hidden: int = 150, n_hidden_recurrent: int = 100,
          r: tuple[int, int] = (21, 109), dt: float = DT, k: int = 15, momentum: float = 0.,
          clip: float | None = None, learn_u0: bool = False, transpose: bool = False,
          pretraining_epochs: int = 0, pretrain_lr: float = 0.01,
          steps_per_beat: int | None = None, optimiser: str = 'sgd', augment: bool = False,
          lr_decay: float = 1.0, validation_frames: int = 0,
          output_folder: str = 'rnnrbm_output', seed: int | None = None, resume: bool = False,
          overwrite: bool = False) -> training.Result:
    """Train an RNN-RBM on MIDI files, and let it make up two tunes.

    A model that is trained makes up more of them with --generate 5, and the output folder; what
    else can be said then, --generate 5 --help tells.

    For example::

        python code/rnnrbm.py --num-epochs 20
        python code/rnnrbm.py --dataset my_tunes/ --steps-per-beat 4 --optimiser adam --augment

    :param lr: length of a step down the gradient
    :param num_epochs: passes through the tunes
    :param dataset: Nottingham when left out; a folder or a zip of MIDI files, tunes or chorales
    :param batch_size: frames in a subsequence; backpropagation goes back no further
    :param n_hidden: number of hidden units of the RBMs
    :param n_hidden_recurrent: number of units of the recurrent network
    :param r: numbers of the lowest note, and of the one above the highest
    :param dt: length of a time step in seconds
    :param k: Gibbs steps of contrastive divergence
    :param momentum: how much of its velocity each parameter keeps, at least 0 and below 1
    :param clip: greatest length of the gradient, to which a longer one is cut; 0 for no limit;
        when left out, 5 with adam, and no limit with the others
    :param learn_u0: let the state before the first frame be a parameter too
    :param transpose: bring every tune into C major or A minor
    :param pretraining_epochs: passes through single frames, to begin from a good RBM
    :param pretrain_lr: learning rate in these
    :param steps_per_beat: time steps in a beat, in place of dt: they follow the tempo of each tune
    :param optimiser: sgd, with the momentum above; momentum, nesterov, rmsprop; or adam, which
        also begins with better weights
    :param augment: learn from every tune in all twelve keys, where its notes stay within r
    :param lr_decay: the learning rate is multiplied by it after every epoch
    :param validation_frames: after every epoch, measure the likelihood of so many frames of the
        tunes for validation, and keep the model that is best; with 0, keep the last one
    :param output_folder: for the tunes, their pictures, checkpoints and the history
    :param seed: of weights, samples and the order of the tunes; 48879 when left out
    :param resume: go on with the run in the output folder
    :param overwrite: replace the run in the output folder
    """
    seed = SEED if seed is None else seed
    settings = dict(locals())
    check(0, num_epochs=num_epochs, pretraining_epochs=pretraining_epochs, pretrain_lr=pretrain_lr,
          validation_frames=validation_frames)
    check(0, 1, lr_decay=lr_decay)
    if augment and transpose:
        raise UserError('`augment` puts tunes into all keys, `transpose` into one: leave one out')

    print('... loading data', flush=True)
    files = datasets.find_tunes(dataset)
    sizes: dict[str, Any] = {
        'n_hidden': n_hidden, 'n_hidden_recurrent': n_hidden_recurrent, 'r': r, 'dt': dt,
        'learn_u0': learn_u0, 'transpose': transpose, 'seed': seed,
        'steps_per_beat': steps_per_beat}
    model = RnnRbm(lr=lr, k=k, momentum=momentum, clip=clip, optimiser=optimiser, **sizes)
    rolls = model.read(files.train)
    if validation_frames and not files.valid:
        raise UserError(f'{files.name} has no folder valid with MIDI files, which '
                        '`validation_frames` needs')
    data = TuneData.of(files.name, rolls)
    if augment:
        rolls = [copy for roll in rolls for copy in in_all_keys(roll)]
    if optimiser == 'adam':
        model.begin_well(rolls)

    print('... building the model', flush=True)
    subsequences = Subsequences.cut(rolls, batch_size)
    step = model.training_function(subsequences, batch_size)
    validate: Callable[[], float] | None = None
    if validation_frames:
        validation = Validation(model.parameters, model.read(files.valid), validation_frames,
                                VALIDATION_TEMPERATURES, seed)

        def measure():
            likelihood = validation.log_likelihood()
            training.say(f'     of the tunes for validation: {likelihood:.3f} nats a frame')
            return -likelihood

        validate = measure

    if optimiser == 'sgd' and num_epochs * step.n_minibatches < FEW_UPDATES:
        print(f'{step.n_minibatches} updates an epoch are few for the small steps of the defaults: '
              'for so little data, try --optimiser adam --augment', flush=True)
    with Run('rnnrbm', settings, data, model.params, sizes,
             ['num_epochs', 'pretraining_epochs']) as run:
        pretrain = model.pretraining_function(rolls, pretrain_lr)
        if pretraining_epochs:
            print('... pre-training the model', flush=True)
        training.train_epochs(
            run, 'single frames', pretrain, pretraining_epochs, columns=('monitor',),
            report=lambda epoch, monitor:
                f'Pre-training {report(epoch, pretraining_epochs, monitor)}')
        print('... training the model', flush=True)
        history = training.train_epochs(
            run, 'tunes', step, num_epochs, columns=('monitor',),
            report=lambda epoch, monitor: report(epoch, num_epochs, monitor),
            scalars=lambda epoch: {'lr': lr * lr_decay ** epoch},
            validate=validate,
            after_epoch=None if validate else lambda epoch, row: run.keep_model(),
            order=lambda epoch: subsequences.order(seed, epoch))
        scores = {'monitor': history[-1]['monitor'], 'epochs': len(history)} if history else {}
        if validate is None or not history:
            run.keep_model()
        else:
            checkpoints.restore(checkpoints.named(model.params), run.model, run.folder)
            costs = [row['validation_cost'] for row in history]
            scores |= {'validation_log_likelihood': -min(costs),
                       'best_epoch': 1 + costs.index(min(costs))}
        write_samples(model, run, (1, 2))
        run.finish(scores)
        print('The monitor tells how well frames are restored. How well they are foretold: python '
              f'code/rnnrbm_likelihood.py --model {output_folder}'
              + (f' --dataset {dataset}' if dataset else ''))
        return training.result(run, model, scores)


test_rnnrbm = train  # its name among the other scripts


if __name__ == '__main__':
    generates = any(argument.split('=')[0] == '--generate' for argument in sys.argv)
    command_line.main(generate if generates else train)
