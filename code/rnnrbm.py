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

How good a model is, held-out tunes tell. The log-likelihood of a frame,
:math:`\log P(v_t | \ldots) = -F_t(v_t) - \log Z_t`, takes annealed importance sampling (see
:mod:`ais`) of the RBM of every frame. It ends in samples of that RBM, which are predictions of the
frame: with TP notes that are in both, FP in the prediction only and FN in the frame only,

.. math::
    \text{accuracy} = \frac{\sum_t \mathrm{E}[TP_t]}{\sum_t \mathrm{E}[TP_t + FP_t + FN_t]} .

References:
    - N. Boulanger-Lewandowski, Y. Bengio, P. Vincent, "Modeling temporal dependencies in
      high-dimensional sequences: application to polyphonic music generation and transcription",
      2012
    - R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural
      networks", 2013 (clipping the gradient)
    - R. M. Neal, "Annealed importance sampling", 2001, and R. Salakhutdinov, I. Murray, "On the
      quantitative analysis of deep belief networks", 2008 (the likelihood)
    - M. Bay, A. F. Ehmann, J. S. Downie, "Evaluation of multiple-F0 estimation and tracking
      systems", 2009 (the accuracy)
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy
import pytensor as theano
import pytensor.tensor as T
from pytensor.compile.sharedvalue import SharedVariable
from scipy.special import expit, logsumexp, softmax

import ais
from support import checkpoints, command_line, datasets, engine, training
from support.checkpoints import Run, written_atomically
from support.errors import UserError
from support.midi import check_resolution, midiwrite, read_all, transposed

SEED = 0xbeef
STEPS_TO_GENERATE = 200
GIBBS_STEPS_TO_GENERATE = 25

FRAMES_PER_CALL = 10_000  # whose biases are computed at once
SUBSEQUENCES_PER_CALL = 200  # between two chances to interrupt RnnRbm.train
CHAINS_PER_CALL = 2000  # of annealed importance sampling, side by side

# What is asked of a model that has been trained, and is no setting of its training.
AFTER_TRAINING = ('generate', 'evaluate', 'n_frames', 'n_chains', 'n_temperatures')


def shared_normal(rng: numpy.random.RandomState, scale: float, *shape: int,
                  name: str) -> SharedVariable:
    """Shared floatX weights, drawn from a normal distribution with this standard deviation."""
    return theano.shared(rng.normal(scale=scale, size=shape).astype(theano.config.floatX),
                         name=name)


def shared_zeros(*shape: int, name: str) -> SharedVariable:
    """Shared floatX zeros."""
    return theano.shared(numpy.zeros(shape, dtype=theano.config.floatX), name=name)


# The model of a frame ---------------------------------------------------------------------------

def free_energy(v: T.TensorVariable, W: T.TensorVariable, bv: T.TensorVariable,
                bh: T.TensorVariable) -> T.TensorVariable:
    """F(v) = -v . bv - sum_j log(1 + exp(v W + bh)_j), of every frame.

    :param v: (..., n_visible); for the other parameters see :func:`build_rbm`
    :return: (...,)
    """
    return -T.sum(v * bv, axis=-1) - T.sum(T.softplus(T.dot(v, W) + bh), axis=-1)


def log_bernoulli(v: T.TensorVariable, activation: T.TensorVariable) -> T.TensorVariable:
    """log p(v) of independent units that are 1 with probability sigmoid(activation).

    v log p + (1 - v) log(1 - p) is v a - softplus(a), which is finite for every finite activation
    a: the logarithm of a sigmoid is not, once the sigmoid is rounded to 0 or 1.

    :param v: (..., n_visible)
    :param activation: the same shape
    :return: (...,)
    """
    return T.sum(v * activation - T.softplus(activation), axis=-1)


def sample_h(v: T.TensorVariable, W: T.TensorVariable, bh: T.TensorVariable,
             theano_rng: engine.RandomStreams) -> T.TensorVariable:
    """Hidden units drawn from P(h = 1 | v) = sigmoid(v W + bh), (..., n_hidden)."""
    mean_h = T.sigmoid(T.dot(v, W) + bh)
    return theano_rng.bernoulli(mean_h.shape, mean_h)


def activation_v(h: T.TensorVariable, W: T.TensorVariable,
                 bv: T.TensorVariable) -> T.TensorVariable:
    """What goes into the sigmoid of P(v = 1 | h), h W' + bv, (..., n_visible)."""
    return T.dot(h, W.T) + bv


def gibbs_chain(v: T.TensorVariable, W: T.TensorVariable, bv: T.TensorVariable,
                bh: T.TensorVariable, k: int, theano_rng: engine.RandomStreams
                ) -> tuple[T.TensorVariable, engine.Updates]:
    """Where k steps from v to h and back lead.

    :param theano_rng: source of the samples; for the other parameters see :func:`build_rbm`
    :return: the end of the chain, in the shape of ``v``, and the updates of the generators
    """
    def gibbs_step(v):
        mean_v = T.sigmoid(activation_v(sample_h(v, W, bh, theano_rng), W, bv))
        return [T.specify_shape(theano_rng.bernoulli(mean_v.shape, mean_v), v.type.shape)]

    (v_sample,), updates = engine.repeat(gibbs_step, v, k)
    return v_sample, updates


def build_rbm(v: T.TensorVariable, W: T.TensorVariable, bv: T.TensorVariable,
              bh: T.TensorVariable, k: int, theano_rng: engine.RandomStreams | None = None,
              mask: T.TensorVariable | None = None
              ) -> tuple[T.TensorVariable, T.TensorVariable, T.TensorVariable, engine.Updates]:
    """Contrastive divergence with k Gibbs steps, for one frame or for many side by side.

    :param v: where the chains start: frames (n_frames, n_visible), or one of them (n_visible,)
    :param W: weights, (n_visible, n_hidden)
    :param bv: biases of the visible units, (n_visible,), or others for each frame
        (n_frames, n_visible)
    :param bh: biases of the hidden units, (n_hidden,) or (n_frames, n_hidden)
    :param k: number of Gibbs steps, at least 1
    :param theano_rng: source of the samples; None for a new one
    :param mask: 1 for the frames that count and 0 for those that do not, (n_frames,); None when
        all of them count
    :return: ``(v_sample, cost, monitor, updates)``: the ends of the chains, in the shape of ``v``;
        the mean difference of free energies, whose gradient with ``v_sample`` held constant is
        that of CD-k; the mean pseudo-log-likelihood of ``v`` under one more mean-field half step
        from the end of the chain; and the updates of the generators, pairs as
        ``theano.function`` takes them
    """
    if theano_rng is None:
        theano_rng = engine.RandomStreams(SEED)

    def mean(frames):
        return T.mean(frames) if mask is None else T.sum(mask * frames) / T.sum(mask)

    v_sample, updates = gibbs_chain(v, W, bv, bh, k, theano_rng)
    cost = mean(free_energy(v, W, bv, bh) - free_energy(v_sample, W, bv, bh))
    activation = activation_v(sample_h(v_sample, W, bh, theano_rng), W, bv)
    monitor = mean(log_bernoulli(v, activation))
    updates += engine.random_updates(activation, blockers=[v_sample])
    return v_sample, cost, monitor, updates


# The model of a sequence ------------------------------------------------------------------------

@dataclass
class Parameters:
    """The parameters of an RNN-RBM and its equations.

    :param W: (n_visible, n_hidden)
    :param bv: (n_visible,)
    :param bh: (n_hidden,)
    :param Wuh: (n_hidden_recurrent, n_hidden)
    :param Wuv: (n_hidden_recurrent, n_visible)
    :param Wvu: (n_visible, n_hidden_recurrent)
    :param Wuu: (n_hidden_recurrent, n_hidden_recurrent)
    :param bu: (n_hidden_recurrent,)
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
        given = [self.W, self.bv, self.bh, self.Wuh, self.Wuv, self.Wvu, self.Wuu, self.bu]
        return given if self.u0 is None else [*given, self.u0]

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


def build_rnnrbm(n_visible: int, n_hidden: int, n_hidden_recurrent: int, k: int = 15,
                 numpy_rng: numpy.random.RandomState | None = None,
                 theano_rng: engine.RandomStreams | None = None,
                 mask: T.TensorVariable | None = None, learn_u0: bool = False) -> tuple[
        T.TensorVariable, T.TensorVariable, T.TensorVariable, T.TensorVariable,
        list[SharedVariable], engine.Updates, T.TensorVariable, engine.Updates]:
    """Symbolic graphs of an RNN-RBM: one to learn from a sequence, one to make up the next frame.

    Where Theano's ``scan`` gave dictionaries of updates there are lists of pairs, for the
    generators; and the recurrence that generates is stated for one frame, with its state in a
    shared variable: the engine's ``function(...).run`` makes a scan of it, as of any other step.

    :param n_visible: number of visible units: notes
    :param n_hidden: number of hidden units of the RBMs
    :param n_hidden_recurrent: number of units of the recurrent network
    :param k: Gibbs steps in training
    :param numpy_rng: where the seed of ``theano_rng``, and then the weights, are drawn from
    :param theano_rng: source of the samples; None for a new one
    :param mask: as for :func:`build_rbm`
    :param learn_u0: let the state before the first frame be a parameter too, instead of zeros
    :return: ``(v, v_sample, cost, monitor, params, updates_train, v_t, updates_generate)``: a
        symbolic sequence (n_frames, n_visible), and for it what :func:`build_rbm` gives; the
        parameters W, bv, bh, Wuh, Wuv, Wvu, Wuu, bu, and u0 if it is learnt; the updates of the
        generators in training; a new frame (n_visible,), its chain started from zeros; and the
        updates after it, of which the first is that of the recurrent state
    """
    if numpy_rng is None:
        numpy_rng = numpy.random.RandomState(SEED)
    if theano_rng is None:
        theano_rng = engine.RandomStreams(numpy_rng.randint(2 ** 30))
    p = Parameters.drawn(numpy_rng, n_visible, n_hidden, n_hidden_recurrent, learn_u0)

    v = T.matrix('v')
    v_sample, cost, monitor, updates_train = build_rbm(
        v, p.W, *p.biases(p.states_before(v)), k, theano_rng, mask)

    u = shared_zeros(n_hidden_recurrent, name='u')
    v_t, updates_chain = gibbs_chain(
        T.zeros(n_visible, dtype=theano.config.floatX), p.W, *p.biases(u),
        GIBBS_STEPS_TO_GENERATE, theano_rng)
    updates_generate = [(u, p.next_state(v_t, u)), *updates_chain]
    return v, v_sample, cost, monitor, p.all(), updates_train, v_t, updates_generate


# Training ---------------------------------------------------------------------------------------

def clipped(gradients: Sequence[T.TensorVariable], longest: float) -> list[T.TensorVariable]:
    """The gradients, all made shorter by one factor where together they are longer than that.

    :param longest: greatest length that is left alone, of all gradients taken as one vector
    """
    length = T.sqrt(sum(T.sum(T.sqr(gradient)) for gradient in gradients))
    factor = T.minimum(1, longest / T.maximum(length, 1e-12))
    return [T.cast(factor, gradient.dtype) * gradient for gradient in gradients]


def momentum_updates(params: Sequence[SharedVariable], velocities: Sequence[SharedVariable],
                     gradients: Sequence[T.TensorVariable], learning_rate: float,
                     momentum: float) -> engine.Updates:
    """Gradient descent with inertia: velocity' = momentum * velocity - learning_rate * gradient.

    :param velocities: one for each parameter; none for a momentum of 0
    """
    floatX = theano.config.floatX
    steps = [-numpy.asarray(learning_rate, floatX) * gradient for gradient in gradients]
    if momentum == 0:
        return [(param, param + step) for param, step in zip(params, steps, strict=True)]
    updates = []
    for param, velocity, step in zip(params, velocities, steps, strict=True):
        new_velocity = numpy.asarray(momentum, floatX) * velocity + step
        updates += [(velocity, new_velocity), (param, param + new_velocity)]
    return updates


@dataclass(frozen=True)
class Subsequences:
    """Tunes cut into pieces of one length; the last piece of each is filled up with silence.

    :param frames: all pieces, one below the other, floatX (n_pieces * length, n_visible)
    :param mask: 1 for the frames of the tunes and 0 for those that were added, floatX
        (n_pieces * length,)
    :param pieces: for each tune, the numbers of its pieces
    :param length: of a piece, in frames
    """

    frames: numpy.ndarray
    mask: numpy.ndarray
    pieces: list[range]
    length: int

    @classmethod
    def cut(cls, rolls: Sequence[numpy.ndarray], length: int) -> 'Subsequences':
        """Cut piano-rolls, each (time steps, n_visible), into pieces of this length."""
        if length < 2:
            raise UserError(f'--batch-size is {length}, but a subsequence needs 2 frames or more: '
                            'its last one teaches the network nothing')
        frames, mask, pieces, n = [], [], [], 0
        for roll in rolls:
            n_pieces = -(-len(roll) // length)
            added = n_pieces * length - len(roll)
            frames += [roll, numpy.zeros((added, roll.shape[1]))]
            mask += [numpy.ones(len(roll)), numpy.zeros(added)]
            pieces.append(range(n, n + n_pieces))
            n += n_pieces
        floatX = theano.config.floatX
        return cls(numpy.concatenate(frames, dtype=floatX, casting='unsafe'),
                   numpy.concatenate(mask).astype(floatX), pieces, length)

    def order(self, seed: int, epoch: int) -> numpy.ndarray:
        """The pieces in the order of an epoch: tunes shuffled, the pieces of a tune in sequence.

        It depends on nothing but seed and epoch, so that a run that goes on needs to know no more.
        """
        shuffled = numpy.random.RandomState([seed, epoch]).permutation(len(self.pieces))
        return numpy.concatenate([self.pieces[tune] for tune in shuffled])


class RnnRbm:
    """An RNN-RBM that learns from MIDI files and writes MIDI files.

    :param n_hidden: number of hidden units of the RBMs
    :param n_hidden_recurrent: number of units of the recurrent network
    :param lr: learning rate
    :param r: numbers of the lowest note, and of the one above the highest
    :param dt: length of a time step in seconds
    :param k: Gibbs steps of contrastive divergence
    :param momentum: how much of its velocity each parameter keeps from update to update, below 1
    :param clip: greatest length of the gradient; longer ones are made that long; 0 for any length
    :param learn_u0: let the state before the first frame be a parameter too
    :param transpose: bring every tune into C major or A minor
    :param seed: of weights, samples and the order of the tunes; 48879 when left out
    :raises UserError: when the settings cannot be
    """

    def __init__(self, n_hidden: int = 150, n_hidden_recurrent: int = 100, lr: float = 0.001,
                 r: tuple[int, int] = (21, 109), dt: float = 0.3, k: int = 15,
                 momentum: float = 0., clip: float = 0., learn_u0: bool = False,
                 transpose: bool = False, seed: int | None = None):
        check_resolution(r, dt)
        if k < 1:
            raise UserError(f'--k is {k}: contrastive divergence needs at least one Gibbs step')
        if not 0 <= momentum < 1:
            raise UserError(f'--momentum is {momentum}, but has to be at least 0 and below 1')
        if not clip >= 0:
            raise UserError(f'--clip is {clip}, but has to be at least 0')
        self.r, self.dt, self.transpose = tuple(r), dt, transpose
        self.lr, self.momentum, self.clip, self.k = lr, momentum, clip, k
        self.seed = SEED if seed is None else seed

        rng = numpy.random.RandomState(self.seed)
        self.theano_rng = engine.RandomStreams(rng.randint(2 ** 30))
        self.mask = T.vector('mask')
        (self.v, self.v_sample, self.cost, self.monitor, self.params, self.updates_train,
         v_t, updates_generate) = build_rnnrbm(
            r[1] - r[0], n_hidden, n_hidden_recurrent, k, rng, self.theano_rng, self.mask, learn_u0)
        self.velocities = [shared_zeros(*param.get_value(borrow=True).shape,
                                        name=f'{param.name}_velocity')
                           for param in self.params] if momentum else []
        self.parameters = Parameters(*self.params)
        self.u = updates_generate[0][0]
        self.next_frame = engine.function([T.lscalar('t')], v_t, updates_generate)

    def read(self, files: Iterable[Any]) -> list[numpy.ndarray]:
        """Piano-rolls of MIDI files, uint8 (time steps, r[1] - r[0]); broken ones are left out."""
        rolls = [tune.piano_roll for tune in read_all(files, self.r, self.dt)]
        return [transposed(roll, self.r) for roll in rolls] if self.transpose else rolls

    def training_function(self, subsequences: Subsequences) -> engine.MinibatchFunction:
        """The function that takes one step of training on a piece, and returns its monitor."""
        index = T.lscalar('index')  # of a piece
        gradients = T.grad(self.cost, self.params, consider_constant=[self.v_sample])
        if self.clip:
            gradients = clipped(gradients, self.clip)
        updates = momentum_updates(self.params, self.velocities, gradients, self.lr, self.momentum)
        length = subsequences.length
        frames, mask = map(engine.shared_data, (subsequences.frames, subsequences.mask))
        return engine.function(
            inputs=[index], outputs=self.monitor, updates=updates + self.updates_train,
            givens={self.v: engine.minibatch(frames, index, length),
                    self.mask: engine.minibatch(mask, index, length)})

    def pretraining_function(self, rolls: Sequence[numpy.ndarray], lr: float,
                             batch_size: int = 100) -> engine.MinibatchFunction:
        """One step of training W, bv and bh as an RBM of single frames, whatever came before.

        :param rolls: each (time steps, n_visible)
        :param lr: learning rate
        :param batch_size: frames in a minibatch
        """
        index, v = T.lscalar('index'), T.matrix('v')
        frames = numpy.concatenate(rolls)
        # In the order of the tunes, a minibatch would hold little but repetitions.
        frames = frames[numpy.random.RandomState(self.seed).permutation(len(frames))]
        params = self.params[:3]
        W, bv, bh = params
        v_sample, cost, monitor, updates = build_rbm(v, W, bv, bh, self.k, self.theano_rng)
        gradients = T.grad(cost, params, consider_constant=[v_sample])
        batch_size = min(batch_size, len(frames))
        return engine.function(
            inputs=[index], outputs=monitor,
            updates=momentum_updates(params, [], gradients, lr, 0.) + updates,
            givens={v: engine.minibatch(engine.shared_data(frames), index, batch_size)})

    def train(self, files: Iterable[Any], batch_size: int = 100, num_epochs: int = 200) -> None:
        """Train on MIDI files, without a folder for checkpoints; Ctrl-C ends it early.

        :param files: paths, in any order
        :param batch_size: frames in a subsequence; backpropagation goes back no further
        :param num_epochs: passes through the files
        """
        rolls = self.read(sorted(files, key=str))
        subsequences = Subsequences.cut(rolls, batch_size)
        step = self.training_function(subsequences)
        try:
            for epoch in range(num_epochs):
                order = subsequences.order(self.seed, epoch)
                # In parts, since Ctrl-C has to wait for the end of a call.
                monitors = [step.run(order[first:last]) for first, last in training.pieces(
                    0, len(order), SUBSEQUENCES_PER_CALL)]
                monitor = float(numpy.mean(numpy.concatenate(monitors), dtype='float64'))
                training.say(report(epoch, num_epochs, monitor))
        except KeyboardInterrupt:
            print('Interrupted: the model is as the last update has left it')

    def sample(self, n_steps: int = STEPS_TO_GENERATE) -> numpy.ndarray:
        """A new piano-roll; the next call gives another one.

        :param n_steps: its length
        :return: zeros and ones, uint8 (n_steps, r[1] - r[0])
        """
        u0 = self.parameters.u0
        self.u.set_value(numpy.zeros_like(self.u.get_value()) if u0 is None else u0.get_value())
        return self.next_frame.run(range(n_steps)).astype('uint8')

    def generate(self, filename: str | os.PathLike, show: bool = True) -> None:
        """Write a new tune of 200 time steps as a MIDI file.

        :param filename: of the MIDI file
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
    """Draw a piano-roll: time from left to right, pitch from bottom to top.

    :param path: the PNG to write
    :param piano_roll: (time steps, r[1] - r[0])
    """
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


# Evaluation -------------------------------------------------------------------------------------

@dataclass(frozen=True)
class FrameModels:
    """Frames of tunes, and for each of them the RBM to which the frames before it lead.

    :param v: the frames, uint8 (n_frames, n_visible)
    :param bv: biases of the visible units, floatX (n_frames, n_visible)
    :param bh: biases of the hidden units, floatX (n_frames, n_hidden)
    :param free_energy: of each frame in its RBM, floatX (n_frames,)
    """

    v: numpy.ndarray
    bv: numpy.ndarray
    bh: numpy.ndarray
    free_energy: numpy.ndarray

    @classmethod
    def of(cls, p: Parameters, rolls: Sequence[numpy.ndarray],
           chosen: numpy.ndarray) -> 'FrameModels':
        """Go through every tune from the initial state to its end, and keep some of the frames.

        :param rolls: the tunes, each (time steps, n_visible)
        :param chosen: which frames to keep, rising; those of all tunes are numbered in sequence
        """
        v = numpy.concatenate(rolls)
        is_first = numpy.concatenate([numpy.arange(len(roll)) == 0 for roll in rolls])
        t = T.lscalar('t')
        v_t, begins = engine.shared_data(v)[t], engine.shared_data(is_first)[t]
        u = shared_zeros(*p.bu.get_value(borrow=True).shape, name='u')
        u_before = T.switch(begins, p.initial_state(), u)
        biases = p.biases(u_before)
        step = engine.function([t], [*biases, free_energy(v_t, p.W, *biases)],
                               updates=[(u, p.next_state(v_t, u_before))])
        kept = []
        for first, last in training.pieces(0, len(v), FRAMES_PER_CALL):
            here = chosen[(first <= chosen) & (chosen < last)] - first
            kept.append([output[here] for output in step.run(range(first, last))])
        return cls(v[chosen], *map(numpy.concatenate, zip(*kept, strict=True)))


class FrameChains:
    """Annealed importance sampling for many frames at once, several chains for each.

    The chains start with independent notes, each as frequent as it is anywhere in the tunes. What
    they start with changes no expectation, only the variance: the visible biases of the frames,
    without the weights that they were trained with, are farther from the distributions of the
    frames, and with them the logarithms of the weights spread four times as wide. With the
    temperatures of :func:`ais.inverse_temperatures` instead of evenly spaced ones they spread
    twice as wide. (On Nottingham, 10 chains for each of 100 frames.)

    :param W: shared weights of the RBMs, (n_visible, n_hidden)
    :param base_vbias: visible biases of the model to start from, (n_visible,)
    :param n_frames: the most frames there are in one run
    :param n_chains: chains for each frame
    :param n_temperatures: Gibbs steps of each chain
    :param seed: of the chains
    """

    def __init__(self, W: SharedVariable, base_vbias: numpy.ndarray, n_frames: int, n_chains: int,
                 n_temperatures: int, seed: int):
        n_visible, n_hidden = W.get_value(borrow=True).shape
        self.n_frames, self.n_chains = n_frames, n_chains
        self.base_vbias, base_hbias = base_vbias, numpy.zeros(n_hidden)
        self.log_z_of_base = ais.log_partition_of_base(base_vbias, base_hbias)
        n_rows = n_frames * n_chains
        self.bv = shared_zeros(n_rows, n_visible, name='bv_of_chains')
        self.bh = shared_zeros(n_rows, n_hidden, name='bh_of_chains')
        self.rng = numpy.random.RandomState(seed)
        self.annealing = ais.Annealing(
            W, self.bv, self.bh, base_vbias, base_hbias, numpy.linspace(0, 1, n_temperatures + 1),
            n_rows, self.rng.randint(2 ** 30))

    def run(self, bv: numpy.ndarray, bh: numpy.ndarray,
            description: str) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Anneal the chains of some frames.

        :param bv: biases of the visible units, (n, n_visible), n at most ``n_frames``
        :param bh: biases of the hidden units, (n, n_hidden)
        :param description: for the progress bar
        :return: the logarithms of weights whose mean over the chains of a frame estimates its Z,
            float64 (n, n_chains); and where the chains end, floatX (n, n_chains, n_visible)
        """
        n = len(bv)
        # Another number of chains would be compiled anew: the last frame fills up the rest.
        row = numpy.repeat(numpy.minimum(numpy.arange(self.n_frames), n - 1), self.n_chains)
        self.bv.set_value(bv[row])
        self.bh.set_value(bh[row])
        start = ais.binarized(numpy.tile(expit(self.base_vbias), (len(row), 1)), self.rng)
        log_weights, ends = self.annealing.run(start, description)
        shape = self.n_frames, self.n_chains
        return ((self.log_z_of_base + log_weights).reshape(shape)[:n],
                ends.reshape(*shape, -1)[:n])


@dataclass(frozen=True)
class Evaluation:
    """What is measured on tunes.

    :param log_likelihood: mean of log P(v_t | v_1 ... v_{t-1}), in nats a frame
    :param accuracy: of predicted frames, in per cent
    :param n_frames: number of frames that were measured
    :param n_all_frames: number of frames that they were chosen from
    """

    log_likelihood: ais.Estimate
    accuracy: ais.Estimate
    n_frames: int
    n_all_frames: int

    def __str__(self):
        return (f'log-likelihood: {self.log_likelihood} nats a frame, on {self.n_frames} of '
                f'{self.n_all_frames} frames\n'
                f'accuracy: {self.accuracy} %')


def expected_notes(v: numpy.ndarray, samples: numpy.ndarray,
                   weights: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """E[TP] and E[TP + FP + FN] of each frame: notes in common, and notes in either.

    :param v: the frames, (n_frames, n_visible)
    :param samples: predictions of them, (n_frames, n_chains, n_visible)
    :param weights: of the predictions, adding up to 1 for each frame, (n_frames, n_chains)
    :return: (n_frames,) each
    """
    true = v[:, None, :] == 1
    predicted = samples == 1
    return tuple((weights * numpy.sum(notes, axis=2)).sum(axis=1)
                 for notes in (true & predicted, true | predicted))


def evaluate(p: Parameters, rolls: Sequence[numpy.ndarray], n_frames: int = 5000,
             n_chains: int = 5, n_temperatures: int = 500, seed: int = 0) -> Evaluation:
    """Log-likelihood and accuracy on tunes that the model was not trained on.

    The intervals hold the choice of the frames, as if it were one out of endlessly many, and the
    noise of the chains, which are others for each frame. They do not hold what makes the
    likelihood too large: the logarithm of a mean of few weights is too small on average, and
    chains may miss parts of the distribution. More temperatures help against both.

    :param p: parameters of the model
    :param rolls: the tunes, each (time steps, n_visible)
    :param n_frames: how many of their frames to measure, chosen at random; 0 for all
    :param n_chains: chains of annealed importance sampling for each frame
    :param n_temperatures: Gibbs steps of each chain
    :param seed: of the choice and the chains
    """
    rng = numpy.random.RandomState(seed)
    n_all = sum(map(len, rolls))
    n = min(n_frames, n_all) if n_frames else n_all
    frames = FrameModels.of(p, rolls, numpy.sort(rng.permutation(n_all)[:n]))
    pieces = list(training.pieces(0, n, max(1, CHAINS_PER_CALL // n_chains)))
    chains = FrameChains(p.W, ais.base_rate_biases(numpy.concatenate(rolls)),
                         max(last - first for first, last in pieces), n_chains, n_temperatures,
                         rng.randint(2 ** 30))
    log_p, common, either = numpy.empty((3, n))
    for first, last in pieces:
        here = slice(first, last)
        log_weights, samples = chains.run(frames.bv[here], frames.bh[here],
                                          f'AIS, frames {first + 1} to {last} of {n}')
        log_z = logsumexp(log_weights, axis=1) - numpy.log(n_chains)
        log_p[here] = -frames.free_energy[here] - log_z
        # The weights make up for what the annealing was too fast to reach.
        common[here], either[here] = expected_notes(frames.v[here], samples,
                                                    softmax(log_weights, axis=1))
    return Evaluation(ais.mean_estimate(log_p), ais.ratio_estimate(100 * common, either), n, n_all)


# The script -------------------------------------------------------------------------------------

@dataclass(frozen=True)
class TuneData:
    """What a run records of its tunes; see :class:`support.checkpoints.DataDescription`."""

    name: str
    sha256: str
    image_shape: tuple[int, ...]

    @classmethod
    def of(cls, name: str, rolls: Sequence[numpy.ndarray]) -> 'TuneData':
        """Describe the piano-rolls that are trained on: their hash is that of the content."""
        sha256 = hashlib.sha256()
        for roll in rolls:
            sha256.update(str(roll.shape).encode())
            sha256.update(numpy.ascontiguousarray(roll))
        return cls(name, sha256.hexdigest(), (1, rolls[0].shape[1]))


def saved_model(output_folder: str | os.PathLike, seed: int | None = None) -> RnnRbm:
    """The model that a run of this script has left in its folder.

    :param seed: of its samples; None for that of the run
    :raises UserError: when there is none
    """
    folder = Path(output_folder)
    state = checkpoints.load_checkpoint(folder / checkpoints.CHECKPOINT)[1]
    if state['script'] != 'rnnrbm':
        raise UserError(f'{folder} holds a run of {state["script"]}: give the output folder of '
                        'a run of rnnrbm')
    names = ('n_hidden', 'n_hidden_recurrent', 'r', 'dt', 'learn_u0', 'transpose', 'seed')
    settings = {name: state['settings'][name] for name in names}
    model = RnnRbm(**settings | ({} if seed is None else {'seed': seed}))
    checkpoints.load_model(folder, model.params)
    return model


def tunes_to_evaluate(which: str, dataset: str | None) -> tuple[str, list[datasets.MidiPath]]:
    """Find held-out tunes.

    :param which: `train`, `valid` or `test` for a part of the data set, or the path of other
        MIDI files, all of which are taken
    :param dataset: as for :func:`support.datasets.find_tunes`
    :return: their name, and the files
    :raises UserError: when there are none
    """
    if which not in datasets.SPLITS:
        files = datasets.find_tunes(which)
        return files.name, [*files.train, *files.valid, *files.test]
    files = datasets.find_tunes(dataset)
    if not getattr(files, which):
        raise UserError(f'{files.name} has no folder {which} with MIDI files: give the path of '
                        'some to --evaluate')
    return f'{files.name}, {which}', getattr(files, which)


def evaluate_saved(output_folder: str, which: str, dataset: str | None, n_frames: int,
                   n_chains: int, n_temperatures: int, seed: int | None) -> Evaluation:
    """Evaluate the model of an output folder, and write ``evaluation_WHICH.json`` beside it.

    For the parameters see :func:`tunes_to_evaluate` and :func:`evaluate`.
    """
    training.check_settings({'n_chains': n_chains, 'n_temperatures': n_temperatures, 'seed': seed})
    model = saved_model(output_folder, seed)
    print('... loading data', flush=True)
    name, files = tunes_to_evaluate(which, dataset)
    rolls = model.read(files)
    print('... evaluating the model', flush=True)
    evaluation = evaluate(model.parameters, rolls, n_frames, n_chains, n_temperatures, model.seed)
    print(evaluation)
    path = Path(output_folder) / f'evaluation_{Path(which).stem}.json'
    checkpoints.save_record(path, {
        'data': name, 'n_chains': n_chains, 'n_temperatures': n_temperatures, 'seed': model.seed,
        **asdict(evaluation)})
    print(f'The tunes were those of {name}; the numbers are in {path}')
    return evaluation


def write_samples(model: RnnRbm, folder: Path, n_samples: int) -> None:
    """Write ``sample1.mid``, ``sample1.png`` and so on; the same model, the same samples."""
    for i in range(1, n_samples + 1):
        model.generate(folder / f'sample{i}.mid')


def test_rnnrbm(lr: float = 0.001, num_epochs: int = 200, dataset: str | None = None,
                batch_size: int = 100, n_hidden: int = 150, n_hidden_recurrent: int = 100,
                r: tuple[int, int] = (21, 109), dt: float = 0.3, k: int = 15, momentum: float = 0.,
                clip: float = 0., learn_u0: bool = False, transpose: bool = False,
                pretraining_epochs: int = 0, pretrain_lr: float = 0.01,
                output_folder: str = 'rnnrbm_output', generate: int = 0,
                evaluate: str | None = None, n_frames: int = 5000, n_chains: int = 5,
                n_temperatures: int = 500, seed: int | None = None, resume: bool = False,
                overwrite: bool = False) -> training.Result | None:
    """Train an RNN-RBM on MIDI files, and let it make up two tunes.

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
    :param generate: write so many tunes by the model in the output folder, and train nothing
    :param evaluate: measure the model in the output folder on held-out tunes, and train nothing:
        on the files test, valid or train of the data set, or in a folder or a zip of MIDI files
    :param n_frames: frames to measure it on, chosen at random; 0 for all
    :param n_chains: chains of annealed importance sampling for each of them
    :param n_temperatures: Gibbs steps of each chain
    :param seed: of weights, samples and the order of the tunes; 48879 when left out
    :param resume: go on with the run in the output folder
    :param overwrite: give up an unfinished run in the output folder
    """
    settings = training.check_settings({name: value for name, value in locals().items()
                                        if name not in AFTER_TRAINING})
    for option, number in (('--generate', generate), ('--n-frames', n_frames)):
        if number < 0:
            raise UserError(f'{option} is {number}, but has to be at least 0')
    if generate:
        write_samples(saved_model(output_folder, seed), Path(output_folder), generate)
        print(f'{generate} tunes and their pictures are in {output_folder}')
    if evaluate is not None:
        evaluate_saved(output_folder, evaluate, dataset, n_frames, n_chains, n_temperatures, seed)
    if generate or evaluate is not None:
        return None

    print('... loading data', flush=True)
    files = datasets.find_tunes(dataset)
    model = RnnRbm(n_hidden, n_hidden_recurrent, lr, r, dt, k, momentum, clip, learn_u0, transpose,
                   seed)
    rolls = model.read(files.train)
    data = TuneData.of(files.name, rolls)

    print('... building the model', flush=True)
    subsequences = Subsequences.cut(rolls, batch_size)
    step = model.training_function(subsequences)
    with Run('rnnrbm', settings, data, model.params, others=model.velocities) as run:
        # Asked for in any case: a run that began without it cannot have it later.
        run.stage('single frames', pretraining_epochs)
        if pretraining_epochs:
            print('... pre-training the model', flush=True)
            training.train_epochs(
                run, 'single frames', model.pretraining_function(rolls, pretrain_lr),
                pretraining_epochs, columns=('monitor',),
                report=lambda epoch, monitor:
                    f'Pre-training {report(epoch, pretraining_epochs, monitor)}')
        print('... training the model', flush=True)
        history = training.train_epochs(
            run, 'tunes', step, num_epochs, columns=('monitor',),
            report=lambda epoch, monitor: report(epoch, num_epochs, monitor),
            after_epoch=lambda epoch: run.keep_model(),
            order=lambda epoch: subsequences.order(model.seed, epoch))
        run.keep_model()
        scores = {'monitor': history[-1]['monitor'], 'epochs': len(history)} if history else {}
        write_samples(model, run.folder, 2)
        run.finish(scores)
        return training.result(run, model, scores)


# The name begins with "test" for the sake of those who know it; it is no test to be collected.
test_rnnrbm.__test__ = False


if __name__ == '__main__':
    command_line.run(test_rnnrbm)
