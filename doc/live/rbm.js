'use strict';
// After: engine.js
/* Restricted Boltzmann machine: code/rbm.py. */

class RBM {
  /** W of (n_visible, n_hidden), hbias of (n_hidden), vbias of (n_visible). */
  constructor([W, hbias, vbias]) {
    this.W = W;
    this.hbias = hbias;
    this.vbias = vbias;
  }

  /** F(v) = -b'v - sum_j log(1 + exp(c_j + v'W_j)). */
  free_energy(v) {
    const wx_b = plus(dot(v, this.W), this.hbias.data);
    return -sum(v.map((value, i) => value * this.vbias.data[i])) - sum(wx_b.map(softplus));
  }

  /** P(h = 1 | v). */
  propup(vis) {
    return plus(dot(vis, this.W), this.hbias.data).map(sigmoid);
  }

  /** P(v = 1 | h). */
  propdown(hid) {
    return plus(dotTransposed(hid, this.W), this.vbias.data).map(sigmoid);
  }

  /** A Gibbs step from v to v: a sample of h, then the probability of v and a sample of it. */
  gibbs_vhv(v0_sample, rng) {
    const h1_sample = rng.bernoulli(this.propup(v0_sample));
    const v1_mean = this.propdown(h1_sample);
    return {h1_sample, v1_mean, v1_sample: rng.bernoulli(v1_mean)};
  }
}

MODELS.rbm = params => new RBM(params);
