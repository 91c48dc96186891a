'use strict';
// After: engine.js
/* Auto-encoders: code/dA.py. */

class AutoEncoder {
  /** W of (n_visible, n_hidden), b of (n_hidden), b_prime of (n_visible). */
  constructor([W, b, b_prime]) {
    this.W = W;
    this.b = b;
    this.b_prime = b_prime;
  }

  /** The code. */
  get_hidden_values(input) {
    return plus(dot(input, this.W), this.b.data).map(sigmoid);
  }

  get_reconstruction_activation(hidden) {
    return plus(dotTransposed(hidden, this.W), this.b_prime.data);
  }

  get_reconstructed_input(hidden) {
    return this.get_reconstruction_activation(hidden).map(sigmoid);
  }

  /** Cross-entropy in nats between the input and its reconstruction from a code. */
  get_cost(input, hidden) {
    const a = this.get_reconstruction_activation(hidden);
    return sum(a.map((value, i) => softplus(value) - input[i] * value));
  }
}

/** Each entry is set to 0 with the probability `corruption_level`. */
const get_corrupted_input = (input, corruption_level, rng) =>
  input.map(value => rng.uniform() < 1 - corruption_level ? value : 0);

MODELS.dA = params => new AutoEncoder(params);
