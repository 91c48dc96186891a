'use strict';
// After: rbm.js
/* RNN-RBM: code/rnnrbm_model.py. */

const GIBBS_STEPS_TO_GENERATE = 25;

class RnnRbm {
  /** In the order of the Python's `Parameters.all()`; u0 only where it was learnt. */
  constructor([W, bv, bh, Wuh, Wuv, Wvu, Wuu, bu, u0]) {
    Object.assign(this, {W, bv, bh, Wuh, Wuv, Wvu, Wuu, bu});
    this.u0 = u0 ? u0.data : new Float32Array(bu.data.length);
  }

  /** The RBM of a frame, whose biases the state before it moves. */
  rbm(u_before) {
    const moved = (bias, W) => ({shape: bias.shape, data: plus(bias.data, dot(u_before, W))});
    return new RBM([this.W, moved(this.bh, this.Wuh), moved(this.bv, this.Wuv)]);
  }

  /** u_t = tanh(bu + v_t Wvu + u_{t-1} Wuu). */
  next_state(v_t, u_before) {
    return plus(this.bu.data, dot(v_t, this.Wvu), dot(u_before, this.Wuu)).map(Math.tanh);
  }

  /** A frame that is made up, its Gibbs chain started from zeros, after the state u. */
  next_frame(u, rng) {
    const rbm = this.rbm(u);
    let v = new Float32Array(this.bv.data.length);
    for (let k = 0; k < GIBBS_STEPS_TO_GENERATE; k++) v = rbm.gibbs_vhv(v, rng).v1_sample;
    return v;
  }

  /** Frames that go on from these: yields after each, and returns all of the new ones. */
  * continued(frames, nSteps, rng) {
    let u = this.u0;
    for (const frame of frames) {
      u = this.next_state(frame, u);
      yield;
    }
    const made = [];
    for (let t = 0; t < nSteps; t++) {
      made.push(this.next_frame(u, rng));
      u = this.next_state(made.at(-1), u);
      yield;
    }
    return made;
  }
}

MODELS.rnnrbm = params => new RnnRbm(params);
