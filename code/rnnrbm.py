r"""RNN-RBM: sequences of frames with many parts each, such as polyphonic music.

At every time step some of the 88 notes of a piano sound together, and which of them go together
depends on what has sounded before. An RBM models a frame :math:`v_t`, a recurrent network the
past: its state :math:`u_t` shifts the biases of the RBM from one time step to the next,

.. math::
    b_v^{(t)} &= b_v + u_{t-1} W_{uv} \\
    b_h^{(t)} &= b_h + u_{t-1} W_{uh} \\
    u_t &= \tanh(b_u + v_t W_{vu} + u_{t-1} W_{uu}) .

The probability of a tune is the product over time of what the RBMs give to its frames,
:math:`P(v_1, \ldots, v_T) = \prod_t P(v_t | v_1, \ldots, v_{t-1})`. Given the frames, all states
:math:`u_t`, and so all biases, are known: the gradient of every factor is that of an RBM, here by
contrastive divergence (CD-k), and goes on from the biases to the recurrent network by
backpropagation through time. In contrastive divergence, a Gibbs chain leads from the frame
:math:`v_t` in k steps to a sample :math:`v_t^*`, and

.. math::
    -\frac{\partial \log P(v_t | \ldots)}{\partial \theta} \approx
    \frac{\partial F(v_t)}{\partial \theta} - \frac{\partial F(v_t^*)}{\partial \theta}, \qquad
    F(v) = -v \cdot b_v - \sum_j \log(1 + \exp(v W + b_h)_j),

with :math:`F` the free energy and :math:`v_t^*` taken as a constant.

How good a model is, held-out tunes tell: see :mod:`rnnrbm_likelihood`.

References:
    - N. Boulanger-Lewandowski, Y. Bengio, P. Vincent, "Modeling temporal dependencies in
      high-dimensional sequences: application to polyphonic music generation and transcription",
      2012
    - R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural
      networks", 2013 (clipping the gradient)
"""

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pytensor as theano
import pytensor.tensor as T
from pytensor.compile.sharedvalue import SharedVariable

from rbm import RBM
from support import checkpoints, command_line, datasets, draws, engine, training
from support.checkpoints import Run, resumable
from support.errors import check
from support.folders import OutputFolder, written_atomically
from support.midi import check_resolution, midiwrite, read_all, transposed
from support.optimisers import clipped, momentum_updates
from support.sequences import Subsequences, TuneData

SEED = 0xbeef
STEPS_TO_GENERATE = 200
GIBBS_STEPS_TO_GENERATE = 25
SUBSEQUENCES_PER_CALL = 200  # between two chances to interrupt RnnRbm.train


def shared_normal(rng: numpy.random.RandomState, scale: float, *shape: int,
                  name: str) -> SharedVariable:
    """Shared floatX weights, drawn from a normal distribution with this standard deviation."""
    return theano.shared(rng.normal(scale=scale, size=shape).astype(theano.config.floatX),
                         name=name)


def shared_zeros(*shape: int, name: str) -> SharedVariable:
    """Shared floatX zeros."""
    return theano.shared(numpy.zeros(shape, dtype=theano.config.floatX), name=name)


def build_rbm(v: T.TensorVariable, W: SharedVariable, bv: T.TensorVariable,
              bh: T.TensorVariable, k: int, theano_rng: draws.RandomStreams | None = None,
              mask: T.TensorVariable | None = None
              ) -> tuple[T.TensorVariable, T.TensorVariable, T.TensorVariable, engine.Updates]:
    """Contrastive divergence with k Gibbs steps, for one frame or for many side by side.

    :param v: where the chains start: frames (n_frames, n_visible), or one of them (n_visible,)
    :param W: (n_visible, n_hidden)
    :param bv: (n_visible,), or other biases for each frame, (n_frames, n_visible)
    :param bh: (n_hidden,) or (n_frames, n_hidden)
    :param mask: 1 for the frames that count and 0 for those that do not, (n_frames,); None when
        all of them count
    :return: ``(v_sample, cost, monitor, updates)``: the ends of the chains, in the shape of ``v``;
        the mean difference of free energies, whose gradient with ``v_sample`` held constant is
        that of CD-k; the mean pseudo-log-likelihood of ``v`` under one more mean-field half step
        from the end of the chain; and the updates of the generators
    """
    if theano_rng is None:
        theano_rng = draws.RandomStreams(SEED)

    def mean(frames):
        return T.mean(frames) if mask is None else T.sum(mask * frames) / T.sum(mask)

    rbm = RBM(v, W=W, hbias=bh, vbias=bv, theano_rng=theano_rng)
    (*_, v_sample), updates = draws.chain(rbm.gibbs_vhv, v, k)
    cost = mean(rbm.free_energy(v) - rbm.free_energy(v_sample))
    _, _, h = rbm.sample_h_given_v(v_sample)
    activation, _ = rbm.propdown(h)
    # v log p + (1 - v) log(1 - p) of p = sigmoid(a) is v a - softplus(a), which is never infinite.
    monitor = mean(T.sum(v * activation - T.softplus(activation), axis=-1))
    return v_sample, cost, monitor, updates + draws.random_updates(activation, blockers=[v_sample])


@dataclass
class Parameters:
    """The parameters of an RNN-RBM and its equations.

    :param W: (n_visible, n_hidden); the other weights lead from the first letter of their names to
        the second: u is the recurrent state, v the frame, h the hidden units
    :param u0: the state before the first frame, (n_hidden_recurrent,); None for zeros
    """

    W: SharedVariable
    bv: SharedVariable
    bh: SharedVariable
    Wuh: SharedVariable
    Wuv: SharedVariable
    Wvu: SharedVariable
    Wuu: SharedVariable
    bu: SharedVariable
    u0: SharedVariable | None = None

    @classmethod
    def drawn(cls, rng: numpy.random.RandomState, n_visible: int, n_hidden: int,
              n_hidden_recurrent: int, learn_u0: bool = False) -> 'Parameters':
        """Small random weights, W first; biases that are zero."""
        return cls(
            W=shared_normal(rng, 0.01, n_visible, n_hidden, name='W'),
            Wuh=shared_normal(rng, 0.0001, n_hidden_recurrent, n_hidden, name='Wuh'),
            Wuv=shared_normal(rng, 0.0001, n_hidden_recurrent, n_visible, name='Wuv'),
            Wvu=shared_normal(rng, 0.0001, n_visible, n_hidden_recurrent, name='Wvu'),
            Wuu=shared_normal(rng, 0.0001, n_hidden_recurrent, n_hidden_recurrent, name='Wuu'),
            bv=shared_zeros(n_visible, name='bv'),
            bh=shared_zeros(n_hidden, name='bh'),
            bu=shared_zeros(n_hidden_recurrent, name='bu'),
            u0=shared_zeros(n_hidden_recurrent, name='u0') if learn_u0 else None)

    def all(self) -> list[SharedVariable]:
        """W, bv, bh, Wuh, Wuv, Wvu, Wuu, bu and, if it is learnt, u0."""
        return [param for param in vars(self).values() if param is not None]

    def initial_state(self) -> T.TensorVariable:
        """The state before the first frame, (n_hidden_recurrent,)."""
        return T.zeros_like(self.bu) if self.u0 is None else self.u0

    def biases(self, u_before: T.TensorVariable) -> tuple[T.TensorVariable, T.TensorVariable]:
        """Biases of the RBM of a frame, bv + u Wuv and bh + u Wuh, by the state before it.

        :param u_before: (..., n_hidden_recurrent)
        :return: (..., n_visible) and (..., n_hidden)
        """
        return self.bv + T.dot(u_before, self.Wuv), self.bh + T.dot(u_before, self.Wuh)

    def next_state(self, v_t: T.TensorVariable, u_before: T.TensorVariable) -> T.TensorVariable:
        """u_t = tanh(bu + v_t Wvu + u_{t-1} Wuu), (n_hidden_recurrent,)."""
        return T.tanh(self.bu + T.dot(v_t, self.Wvu) + T.dot(u_before, self.Wuu))

    def states_before(self, v: T.TensorVariable) -> T.TensorVariable:
        """For every frame the state before it: u_0 ... u_{T-1}.

        :param v: (n_frames, n_visible)
        :return: (n_frames, n_hidden_recurrent)
        """
        def recurrence(from_v, u_before):
            return T.tanh(from_v + T.dot(u_before, self.Wuu))

        # What the frames contribute does not depend on the states: one product for all of them.
        u = theano.scan(recurrence, sequences=[self.bu + T.dot(v, self.Wvu)],
                        outputs_info=[self.initial_state()], return_updates=False)
        return T.concatenate([self.initial_state()[None, :], u[:-1]])

    def next_frame(self, u: SharedVariable, theano_rng: draws.RandomStreams
                   ) -> tuple[T.TensorVariable, engine.Updates]:
        """A frame that is made up, its Gibbs chain started from zeros, and the state after it.

        :param u: the state before it, which the updates change
        """
        bv, bh = self.biases(u)
        silence = T.zeros(self.bv.get_value(borrow=True).shape, dtype=theano.config.floatX)
        rbm = RBM(silence, W=self.W, hbias=bh, vbias=bv, theano_rng=theano_rng)
        (*_, v_t), updates = draws.chain(rbm.gibbs_vhv, silence, GIBBS_STEPS_TO_GENERATE)
        return v_t, [(u, self.next_state(v_t, u)), *updates]


def build_rnnrbm(n_visible: int, n_hidden: int, n_hidden_recurrent: int, k: int = 15,
                 numpy_rng: numpy.random.RandomState | None = None,
                 theano_rng: draws.RandomStreams | None = None) -> tuple:
    """Symbolic graphs of an RNN-RBM, in the form of the old tutorial.

    Where Theano's ``scan`` gave dictionaries of updates there are lists of pairs, and the
    recurrence that generates is stated for one frame, with its state in a shared variable:
    ``engine.function(...).over`` makes a scan of it, as of any other step.

    :return: ``(v, v_sample, cost, monitor, params, updates_train, v_t, updates_generate)``: a
        symbolic sequence (n_frames, n_visible), and for it what :func:`build_rbm` gives; the
        parameters; a new frame (n_visible,); and the updates after it, of which the first is that
        of the recurrent state
    """
    if numpy_rng is None:
        numpy_rng = numpy.random.RandomState(SEED)
    if theano_rng is None:
        theano_rng = draws.RandomStreams(numpy_rng.randint(2 ** 30))
    p = Parameters.drawn(numpy_rng, n_visible, n_hidden, n_hidden_recurrent)
    v = T.matrix('v')
    v_sample, cost, monitor, updates_train = build_rbm(
        v, p.W, *p.biases(p.states_before(v)), k, theano_rng)
    v_t, updates_generate = p.next_frame(shared_zeros(n_hidden_recurrent, name='u'), theano_rng)
    return v, v_sample, cost, monitor, p.all(), updates_train, v_t, updates_generate


class RnnRbm:
    """An RNN-RBM that learns from MIDI files and writes MIDI files.

    :param lr: learning rate
    :param r: numbers of the lowest note, and of the one above the highest
    :param dt: length of a time step in seconds
    :param k: Gibbs steps of contrastive divergence
    :param momentum: how much of its velocity each parameter keeps from update to update, below 1
    :param clip: greatest length of the gradient; longer ones are made that long; 0 for any length
    :param learn_u0: let the state before the first frame be a parameter too
    :param transpose: bring every tune into C major or A minor
    :param seed: of weights, samples and the order of the tunes
    :raises UserError: when the settings cannot be
    """

    def __init__(self, n_hidden: int = 150, n_hidden_recurrent: int = 100, lr: float = 0.001,
                 r: tuple[int, int] = (21, 109), dt: float = 0.3, k: int = 15,
                 momentum: float = 0., clip: float = 0., learn_u0: bool = False,
                 transpose: bool = False, seed: int = SEED):
        check_resolution(r, dt)
        check(0, lr=lr, clip=clip)
        check(0, 0.9999, momentum=momentum)
        check(1, n_hidden=n_hidden, n_hidden_recurrent=n_hidden_recurrent)
        self.r, self.dt, self.transpose = (r[0], r[1]), dt, transpose
        self.lr, self.momentum, self.clip, self.k, self.seed = lr, momentum, clip, k, seed
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
        rolls = [tune.piano_roll for tune in read_all(files, self.r, self.dt)]
        return [transposed(roll, self.r) for roll in rolls] if self.transpose else rolls

    def training_function(self, subsequences: Subsequences, length: int) -> engine.Step:
        """One step of training on a piece of this length, which returns the monitor."""
        index = T.lscalar('index')  # of a piece
        gradients = T.grad(self.cost, self.params, consider_constant=[self.v_sample])
        if self.clip:
            gradients = clipped(gradients, self.clip)
        updates = momentum_updates(self.params, gradients, self.lr, self.momentum)
        frames, mask = map(engine.shared_data, (subsequences.frames, subsequences.mask))
        return engine.function(
            inputs=[index], outputs=self.monitor, updates=updates + self.updates_train,
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
        subsequences = Subsequences.cut(self.read(sorted(files, key=str)), batch_size)
        step = self.training_function(subsequences, batch_size)
        try:
            for epoch in range(num_epochs):
                order = subsequences.order(self.seed, epoch)
                # In parts, since Ctrl-C has to wait for the end of a call.
                monitors = [step.over(order[first:last]) for first, last
                            in training.parts(len(order), SUBSEQUENCES_PER_CALL)]
                monitor = float(numpy.mean(numpy.concatenate(monitors), dtype='float64'))
                training.say(report(epoch, num_epochs, monitor))
        except KeyboardInterrupt:
            print('Interrupted: the model is as the last update has left it')

    def sample(self, n_steps: int = STEPS_TO_GENERATE) -> numpy.ndarray:
        """A new piano-roll, uint8 (n_steps, r[1] - r[0]); the next call gives another one."""
        u0 = self.parameters.u0
        self.u.set_value(numpy.zeros_like(self.u.get_value()) if u0 is None else u0.get_value())
        return self.next_frame.over(range(n_steps)).astype('uint8')

    def generate(self, filename: str | os.PathLike, show: bool = True) -> None:
        """Write a new tune of 200 time steps as a MIDI file.

        :param show: also draw its piano-roll, into a PNG of the same name
        """
        piano_roll = self.sample()
        path = Path(filename)
        with written_atomically(path) as file:
            midiwrite(file, piano_roll, self.r, self.dt)
        if show:
            save_piano_roll(path.with_suffix('.png'), piano_roll, self.r, self.dt)


def report(epoch: int, num_epochs: int, monitor: float) -> str:
    """The line that is printed after an epoch, counted from 0."""
    return f'Epoch {epoch + 1}/{num_epochs} {monitor}'


def save_piano_roll(path: Path, piano_roll: numpy.ndarray, r: tuple[int, int],
                    dt: float) -> None:
    """Draw a piano-roll (time steps, r[1] - r[0]): time to the right, pitch upwards."""
    from matplotlib.figure import Figure  # slow to import, and needed only here

    figure = Figure(figsize=(10, 5), layout='constrained')
    axes = figure.subplots()
    # A frame lies between its time and the next one's, a note half above and half below its number.
    axes.imshow(piano_roll.T, origin='lower', aspect='auto', interpolation='nearest',
                cmap='gray_r', vmin=0, vmax=1,
                extent=(0, dt * len(piano_roll), r[0] - 0.5, r[1] - 0.5))
    axes.set(xlabel='time (s)', ylabel='MIDI note number', title='generated piano-roll')
    with written_atomically(path, durable=False) as file:
        figure.savefig(file, format='png', dpi=100)


def write_samples(model: RnnRbm, output: OutputFolder, n_samples: int) -> None:
    """Write ``sample1.mid``, ``sample1.png`` and so on; the same model, the same samples."""
    for i in range(1, n_samples + 1):
        output.file(f'sample{i}.png')
        model.generate(output.file(f'sample{i}.mid'))


def load(output_folder: str, seed: int | None = None) -> RnnRbm:
    """The model that a run of this script has left in its folder.

    :param seed: of its samples; None for that of the run
    :raises UserError: when there is none
    """
    return checkpoints.load(output_folder, lambda **settings: RnnRbm(
        **settings | ({} if seed is None else {'seed': seed})))


def generate(generate: int = 2, output_folder: str = 'rnnrbm_output',
             seed: int | None = None) -> None:
    """Let a trained model make up more tunes.

    :param generate: write so many tunes by the model in the output folder, and train nothing
    :param output_folder: of a run
    :param seed: of the tunes; that of the run when left out
    """
    check(1, generate=generate)
    model = load(output_folder, seed)
    with OutputFolder(output_folder) as output:
        write_samples(model, output, generate)
    print(f'{generate} tunes and their pictures are in {output_folder}')


@resumable
def train(lr: float = 0.001, num_epochs: int = 200, dataset: str | None = None,
          batch_size: int = 100, n_hidden: int = 150, n_hidden_recurrent: int = 100,
          r: tuple[int, int] = (21, 109), dt: float = 0.3, k: int = 15, momentum: float = 0.,
          clip: float = 0., learn_u0: bool = False, transpose: bool = False,
          pretraining_epochs: int = 0, pretrain_lr: float = 0.01,
          output_folder: str = 'rnnrbm_output', seed: int | None = None, resume: bool = False,
          overwrite: bool = False) -> training.Result:
    """Train an RNN-RBM on MIDI files, and let it make up two tunes.

    A model that is trained makes up more of them with --generate 5, and the output folder.

    :param lr: length of a step down the gradient
    :param num_epochs: passes through the tunes
    :param dataset: Nottingham when left out; a folder or a zip of MIDI files, or tunes
    :param batch_size: frames in a subsequence; backpropagation goes back no further
    :param n_hidden: number of hidden units of the RBMs
    :param n_hidden_recurrent: number of units of the recurrent network
    :param r: numbers of the lowest note, and of the one above the highest
    :param dt: length of a time step in seconds
    :param k: Gibbs steps of contrastive divergence
    :param momentum: how much of its velocity each parameter keeps, at least 0 and below 1
    :param clip: greatest length of the gradient, to which a longer one is cut; 0 for no limit
    :param learn_u0: let the state before the first frame be a parameter too
    :param transpose: bring every tune into C major or A minor
    :param pretraining_epochs: passes through single frames, to begin from a good RBM
    :param pretrain_lr: learning rate in these
    :param output_folder: for the tunes, their pictures, checkpoints and the history
    :param seed: of weights, samples and the order of the tunes; 48879 when left out
    :param resume: go on with the run in the output folder
    :param overwrite: replace the run in the output folder
    """
    seed = SEED if seed is None else seed
    settings = dict(locals())
    check(0, num_epochs=num_epochs, pretraining_epochs=pretraining_epochs, pretrain_lr=pretrain_lr)

    print('... loading data', flush=True)
    files = datasets.find_tunes(dataset)
    sizes: dict[str, Any] = {
        'n_hidden': n_hidden, 'n_hidden_recurrent': n_hidden_recurrent, 'r': r, 'dt': dt,
        'learn_u0': learn_u0, 'transpose': transpose, 'seed': seed}
    model = RnnRbm(lr=lr, k=k, momentum=momentum, clip=clip, **sizes)
    rolls = model.read(files.train)
    data = TuneData.of(files.name, rolls)

    print('... building the model', flush=True)
    subsequences = Subsequences.cut(rolls, batch_size)
    step = model.training_function(subsequences, batch_size)
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
            after_epoch=lambda epoch, row: run.keep_model(),
            order=lambda epoch: subsequences.order(seed, epoch))
        run.keep_model()
        scores = {'monitor': history[-1]['monitor'], 'epochs': len(history)} if history else {}
        write_samples(model, run.output, 2)
        run.finish(scores)
        return training.result(run, model, scores)


test_rnnrbm = train  # its name among the other scripts


if __name__ == '__main__':
    command_line.main(generate if '--generate' in sys.argv else train)
