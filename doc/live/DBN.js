'use strict';
// After: rbm.js
/* Deep belief network, as pretraining has left it: code/DBN.py. */

class DBN {
  /** W, hbias and vbias of each RBM, from the bottom to the top. */
  constructor(params) {
    this.rbm_layers = [];
    for (let i = 0; i < params.length; i += 3) {
      this.rbm_layers.push(new RBM(params.slice(i, i + 3)));
    }
    this.top = this.rbm_layers.at(-1);
  }

  /** What each layer makes of an image, from the lowest hidden one up: probabilities. */
  propup(image) {
    const layers = [];
    for (const rbm of this.rbm_layers) layers.push(rbm.propup(layers.at(-1) ?? image));
    return layers;
  }

  /** From a state of what the top RBM sees down to the image, a layer at a time: probabilities, from
      the lowest, the image, up. What the next layer is given is a sample of them. */
  generate(v, rng) {
    const layers = [];
    for (const rbm of this.rbm_layers.slice(0, -1).reverse()) {
      const p = rbm.propdown(v);
      layers.unshift(p);
      v = rng.bernoulli(p);
    }
    return layers;
  }
}

MODELS.DBN = params => new DBN(params);
