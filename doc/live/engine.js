'use strict';
/* What the models stand on: weights, products, functions of single numbers, random numbers.

   A vector is a Float32Array. A matrix is {shape, data}, its rows one after the other in data.
   Everything is computed for one example: what the Python calls (batch_size, n) is here (n).
*/

const weights = {};  // what the files in weights/ hold: script, title, sizes and params of a model
const MODELS = {};   // by the name of the script: from parameters and sizes to the model

const CHARACTERS = 2 ** 16;  // of base64 that are decoded at a time; a multiple of four

/** The parameters of a model in the order of the Python's `params`. They are stored in 8 bits:
    each array as whole numbers from -127 to 127, and what one of them is worth.
    A generator that yields between its parts, for `inFrames`. */
function* parameters(name) {
  const params = [];
  for (const {shape, scale, int8} of weights[name].params) {
    const data = new Float32Array(shape.reduce((product, n) => product * n, 1));
    let i = 0;
    for (let start = 0; start < int8.length; start += CHARACTERS) {
      const part = atob(int8.slice(start, start + CHARACTERS));
      for (let k = 0; k < part.length; k++) {
        data[i++] = (part.charCodeAt(k) << 24 >> 24) * scale;
      }
      yield;
    }
    params.push({shape, data});
  }
  return params;
}

/** x W, for W of (n_in, n_out). Inputs that are zero, as most pixels are, cost nothing. */
function dot(x, W) {
  const [nIn, nOut] = W.shape;
  const result = new Float32Array(nOut);
  for (let i = 0; i < nIn; i++) {
    if (x[i] === 0) continue;
    for (let j = 0, k = i * nOut; j < nOut; j++, k++) result[j] += x[i] * W.data[k];
  }
  return result;
}

/** h W', the way back through the same weights. */
function dotTransposed(h, W) {
  const [nIn, nOut] = W.shape;
  const result = new Float32Array(nIn);
  for (let i = 0, k = 0; i < nIn; i++) {
    let sum = 0;
    for (let j = 0; j < nOut; j++, k++) sum += h[j] * W.data[k];
    result[i] = sum;
  }
  return result;
}

/** The sum of vectors of one length. */
function plus(...vectors) {
  return vectors[0].map((_, i) => vectors.reduce((sum, vector) => sum + vector[i], 0));
}

const sum = x => x.reduce((a, b) => a + b, 0);
const sigmoid = a => 1 / (1 + Math.exp(-a));
const softplus = a => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));
const relu = a => Math.max(a, 0);
const argmax = x => x.indexOf(Math.max(...x));

function softmax(a) {
  const largest = Math.max(...a);
  const powers = a.map(value => Math.exp(value - largest));
  const total = sum(powers);
  return powers.map(power => power / total);
}

/** Random numbers by shifts and exclusive ors (Marsaglia, 2003): the same seed, the same again. */
class RandomStreams {
  constructor(seed) {
    this.state = Math.imul(seed + 1, 2654435761) || 1;
    for (let i = 0; i < 8; i++) this.uniform();  // until small seeds have spread
  }

  /** In [0, 1). */
  uniform() {
    this.state ^= this.state << 13;
    this.state ^= this.state >>> 17;
    this.state ^= this.state << 5;
    return (this.state >>> 0) / 2 ** 32;
  }

  normal() {
    return Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }

  /** Ones with these probabilities, and zeros. */
  bernoulli(p) {
    return p.map(probability => this.uniform() < probability ? 1 : 0);
  }
}
