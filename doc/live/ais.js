'use strict';
// After: rbm.js
/* Annealed importance sampling: code/ais.py, with a model A that has no hidden biases. */

/** From 0 to 1, closer together towards 1. */
function inverse_temperatures(nTemperatures) {
  const [positions, values] = [[0, 500, 4500, 14500], [0, 0.5, 0.9, 1]];
  return Float64Array.from({length: nTemperatures + 1}, (_, i) => {
    const position = i * 14500 / nTemperatures;
    const k = Math.max(1, positions.findIndex(end => position <= end));
    const part = (position - positions[k - 1]) / (positions[k] - positions[k - 1]);
    return values[k - 1] + part * (values[k] - values[k - 1]);
  });
}

/** log Z of the model A, all of whose units are independent. */
const log_partition_of_base = (vbias, nHidden) =>
  sum(vbias.map(softplus)) + nHidden * Math.log(2);

/** One chain, from the model A to the RBM: yields after each temperature, and returns the logarithm
    of its weight. `v` is its first state, a sample of the model A. */
function* annealing(rbm, base_vbias, betas, v, rng) {
  const {W, hbias, vbias} = rbm;
  let logWeight = 0;
  for (let k = 0; k < betas.length - 1; k++) {
    const [beta, newBeta] = [betas[k], betas[k + 1]];
    // log f(v) at the new temperature less that at the old one
    const activation = plus(dot(v, W), hbias.data);
    logWeight += (newBeta - beta) * sum(v.map((value, i) =>
      value * (vbias.data[i] - base_vbias[i])));
    activation.forEach(a => { logWeight += softplus(newBeta * a) - softplus(beta * a); });
    // and a Gibbs step at the new one
    const h = rng.bernoulli(activation.map(a => sigmoid(newBeta * a)));
    const down = plus(dotTransposed(h, W), vbias.data);
    v = rng.bernoulli(down.map((a, i) => sigmoid((1 - newBeta) * base_vbias[i] + newBeta * a)));
    yield;
  }
  return logWeight;
}

/** log Z by summing over all states of the hidden layer. */
function* exact_log_partition({W, hbias, vbias}) {
  const n = hbias.data.length, logs = [];
  for (let number = 0; number < 2 ** n; number++) {
    const h = hbias.data.map((_, j) => number >> j & 1);
    logs.push(sum(h.map((on, j) => on * hbias.data[j]))
      + sum(plus(dotTransposed(h, W), vbias.data).map(softplus)));
    if (number % 64 === 0) yield;
  }
  const largest = logs.reduce((a, b) => Math.max(a, b));
  return largest + Math.log(sum(logs.map(log => Math.exp(log - largest))));
}

/** The logarithm of the mean of weights, given their logarithms, and an interval of three standard
    errors of the mean on either side. */
function log_mean_estimate(logWeights) {
  const n = logWeights.length, largest = Math.max(...logWeights);
  const scaled = logWeights.map(log => Math.exp(log - largest)), mean = sum(scaled) / n;
  const error = n > 1
    ? Math.sqrt(sum(scaled.map(value => (value - mean) ** 2)) / (n - 1) / n) : Infinity;
  const log = value => largest + (value > 0 ? Math.log(value) : -Infinity);
  return {value: log(mean), low: log(mean - 3 * error), high: log(mean + 3 * error)};
}
