"""The likelihood of frames of tunes, each in the RBM to which an RNN-RBM is led by those before it.

:mod:`rnnrbm_likelihood` says what is measured, and how; this does it, while a model is trained or
afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from support import engine, training
from support.estimates import Estimate, mean_estimate, ratio_estimate

import numpy
import pytensor.tensor as T
from pytensor.compile.sharedvalue import SharedVariable
from scipy.special import expit, logsumexp, softmax

import ais
from rbm import RBM, base_rate_biases
from rnnrbm_model import Parameters, shared_zeros

FRAMES_PER_CALL = 10_000  # whose biases are computed at once
CHAINS_PER_CALL = 2000  # of annealed importance sampling, side by side
FEWEST_TEMPERATURES, MOST_TEMPERATURES = 500, 50_000  # that are tried where none are asked for
FRAMES_TO_TRY = 500  # what ten times as many change


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

    def __getitem__(self, rows: slice | numpy.ndarray) -> 'FrameModels':
        """Some of them."""
        return FrameModels(*(array[rows] for array in vars(self).values()))


class FrameReader:
    """Goes through every tune from the initial state to its end, and keeps some of the frames.

    :param p: parameters of the model, which may change from one reading to the next
    :param rolls: the tunes, each (time steps, n_visible)
    :param chosen: which frames to keep, rising; those of all tunes are numbered in sequence
    """

    def __init__(self, p: Parameters, rolls: Sequence[numpy.ndarray], chosen: numpy.ndarray):
        self.v, self.chosen = numpy.concatenate(rolls), chosen
        is_first = numpy.concatenate([numpy.arange(len(roll)) == 0 for roll in rolls])
        t = T.lscalar('t')
        v_t, begins = engine.shared_data(self.v)[t], engine.shared_data(is_first)[t]
        u = shared_zeros(*p.bu.get_value(borrow=True).shape, name='u')
        u_before = T.switch(begins, p.initial_state(), u)
        bv, bh = p.biases(u_before)
        frame = RBM(v_t, W=p.W, hbias=bh, vbias=bv)
        self.step = engine.function([t], [bv, bh, frame.free_energy(v_t)],
                                    updates=[(u, p.next_state(v_t, u_before))])

    def read(self) -> FrameModels:
        """The RBMs of the frames, by the present parameters."""
        kept = []
        for first, last in training.parts(len(self.v), FRAMES_PER_CALL):
            here = self.chosen[(first <= self.chosen) & (self.chosen < last)] - first
            kept.append([output[here] for output in self.step.over(range(first, last))])
        return FrameModels(self.v[self.chosen], *map(numpy.concatenate, zip(*kept, strict=True)))


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
        self.beginning = self.rng.get_state(), self.annealing.step.generator_states()

    def rewind(self) -> None:
        """Let the next run draw what the first one has drawn."""
        numbers, states = self.beginning
        self.rng.set_state(numbers)
        self.annealing.step.set_generator_states(states)

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
    :param n_temperatures: Gibbs steps of each chain
    :param change: of the log-likelihood of some of the frames with ten times as many
    :param n_frames: number of frames that were measured
    :param n_all_frames: number of frames that they were chosen from
    :param base_log_likelihood: of a model of independent notes, each as frequent as it is in these
        tunes, in nats a frame; computed, not estimated
    :param base_accuracy: of that model, in per cent
    """

    log_likelihood: Estimate
    accuracy: Estimate
    n_temperatures: int
    change: Estimate
    n_frames: int
    n_all_frames: int
    base_log_likelihood: float
    base_accuracy: float

    @property
    def has_converged(self) -> bool:
        """Whether ten times as many temperatures change less than a standard error."""
        return 3 * abs(self.change.value) <= self.log_likelihood.high - self.log_likelihood.value

    def __str__(self):
        times = numpy.exp(self.log_likelihood.value - self.base_log_likelihood)
        return (f'log-likelihood: {self.log_likelihood} nats a frame, on {self.n_frames} of '
                f'{self.n_all_frames} frames\n'
                f'With {10 * self.n_temperatures} temperatures instead of {self.n_temperatures} '
                f'it changes by {self.change}'
                + ('\n' if self.has_converged else
                   ', and is not known yet: give more `n_temperatures`\n') +
                f'accuracy: {self.accuracy} %\n'
                'That is: of the notes that sound in a frame, or that the model expects there, '
                f'{self.accuracy.value:.0f} % are both.\n'
                'One who knew only how often each note sounds in these tunes would have '
                f'{self.base_log_likelihood:.2f} nats and {self.base_accuracy:.2f} %; to the '
                f'model, a frame is {times:.3g} times as probable.')


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
    common, either = ((weights * numpy.sum(notes, axis=2)).sum(axis=1)
                      for notes in (true & predicted, true | predicted))
    return common, either


def measured_base(v: numpy.ndarray, bv: numpy.ndarray) -> tuple[float, float]:
    """Log-likelihood in nats a frame, and accuracy in per cent, of a model of independent notes.

    :param v: frames, (n_frames, n_visible)
    :param bv: log-odds of the notes, (n_visible,)
    """
    probable = expit(bv)
    common, either = v @ probable, v.sum(axis=1) + (1 - v) @ probable
    return (float(numpy.mean(v @ bv) - numpy.logaddexp(0, bv).sum()),
            float(100 * common.sum() / either.sum()))


class Validation:
    """The likelihood of the same frames, again and again while a model is trained.

    :param p: parameters of the model
    :param rolls: tunes that it is not trained on, each (time steps, n_visible)
    :param n_frames: how many of their frames to measure, chosen at random
    :param n_temperatures: Gibbs steps of each of five chains for each frame
    :param seed: of the choice and the chains
    """

    def __init__(self, p: Parameters, rolls: Sequence[numpy.ndarray], n_frames: int,
                 n_temperatures: int, seed: int):
        rng = numpy.random.RandomState(seed)
        n = sum(map(len, rolls))
        chosen = numpy.sort(rng.permutation(n)[:n_frames])
        self.reader = FrameReader(p, rolls, chosen)
        self.chains = FrameChains(p.W, base_rate_biases(numpy.concatenate(rolls)), len(chosen), 5,
                                  n_temperatures, rng.randint(2 ** 30))

    def log_likelihood(self) -> float:
        """By the present parameters, in nats a frame."""
        frames = self.reader.read()
        self.chains.rewind()  # so that what differs from the last time is the model
        log_weights, _ = self.chains.run(frames.bv, frames.bh, 'AIS')
        log_z = logsumexp(log_weights, axis=1) - numpy.log(log_weights.shape[1])
        return float(numpy.mean(-frames.free_energy - log_z))


def annealed(W: SharedVariable, frames: FrameModels, base_vbias: numpy.ndarray, n_chains: int,
             n_temperatures: int, seed: int) -> numpy.ndarray:
    """What chains of annealed importance sampling say of each frame.

    :param W: weights of the RBMs of the frames, (n_visible, n_hidden)
    :param base_vbias: of the model that the chains start with, (n_visible,)
    :return: the log-probability of each frame, and its :func:`expected_notes`, (3, n_frames)
    """
    n = len(frames.v)
    pieces = training.parts(n, max(1, CHAINS_PER_CALL // n_chains))
    chains = FrameChains(W, base_vbias, max(last - first for first, last in pieces), n_chains,
                         n_temperatures, seed)
    found = numpy.empty((3, n))
    for first, last in pieces:
        here = frames[first:last]
        log_weights, samples = chains.run(
            here.bv, here.bh, f'AIS, {n_temperatures} temperatures, frames {first + 1} to {last} '
            f'of {n}')
        log_z = logsumexp(log_weights, axis=1) - numpy.log(n_chains)
        # The weights make up for what the annealing was too fast to reach.
        found[:, first:last] = (-here.free_energy - log_z, *expected_notes(
            here.v, samples, softmax(log_weights, axis=1)))
    return found


def measured(p: Parameters, rolls: Sequence[numpy.ndarray], n_frames: int = 5000,
             n_chains: int = 5, n_temperatures: int | None = None, seed: int = 0) -> Evaluation:
    """Log-likelihood and accuracy on tunes that the model was not trained on.

    The intervals hold the choice of the frames, as if it were one out of endlessly many, and the
    noise of the chains, which are others for each frame. They do not hold what makes the
    likelihood too large: the logarithm of a mean of few weights is too small on average, and
    chains may miss parts of the distribution. What ten times as many temperatures change says
    how much that is.

    :param p: parameters of the model
    :param rolls: the tunes, each (time steps, n_visible)
    :param n_frames: how many of their frames to measure, chosen at random; 0 for all
    :param n_chains: chains of annealed importance sampling for each frame
    :param n_temperatures: Gibbs steps of each chain; None for ``FEWEST_TEMPERATURES``, or, while
        that changes the likelihood by more than its standard error, and up to
        ``MOST_TEMPERATURES``, ten times as many
    :param seed: of the choice and the chains
    """
    rng = numpy.random.RandomState(seed)
    n_all = sum(map(len, rolls))
    n = min(n_frames, n_all) if n_frames else n_all
    frames = FrameReader(p, rolls, numpy.sort(rng.permutation(n_all)[:n])).read()
    base = base_rate_biases(numpy.concatenate(rolls))

    def of(frames, n_temperatures):
        return annealed(p.W, frames, base, n_chains, n_temperatures, rng.randint(2 ** 30))

    some = frames[rng.permutation(n)[:FRAMES_TO_TRY]]
    tried = n_temperatures or FEWEST_TEMPERATURES
    log_p, *_ = of(some, tried)
    while True:
        with_more, *_ = of(some, 10 * tried)
        change = mean_estimate(with_more - log_p)
        by_chance = numpy.std(with_more) / numpy.sqrt(n)
        if (n_temperatures is not None or abs(change.value) <= by_chance
                or 10 * tried > MOST_TEMPERATURES):
            break
        tried, log_p = 10 * tried, with_more
    log_p, common, either = of(frames, tried)
    return Evaluation(mean_estimate(log_p), ratio_estimate(100 * common, either), tried, change, n,
                      n_all, *measured_base(frames.v, base))
