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

It is trained by :mod:`rnnrbm`. How good a model is, held-out tunes tell: see
:mod:`rnnrbm_likelihood`.

References:
    - N. Boulanger-Lewandowski, Y. Bengio, P. Vincent, "Modeling temporal dependencies in
      high-dimensional sequences: application to polyphonic music generation and transcription",
      2012
"""

from dataclasses import dataclass

from support import draws, engine

import numpy
import pytensor as theano
import pytensor.tensor as T
from pytensor.compile.sharedvalue import SharedVariable

from rbm import RBM

SEED = 0xbeef
GIBBS_STEPS_TO_GENERATE = 25


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
