'use strict';
// After: logistic_sgd.js
/* Multilayer perceptron: code/mlp.py. */

const ACTIVATIONS = {tanh: Math.tanh, relu, sigmoid};

class HiddenLayer {
  constructor([W, b], activation) {
    this.W = W;
    this.b = b;
    this.activation = activation;
  }

  output(x) {
    return plus(dot(x, this.W), this.b.data).map(this.activation);
  }
}

class MLP {
  /** Of each hidden layer W and b, from the lowest up; then W and b of the classifier. */
  constructor(params, {activation}) {
    this.hiddenLayers = [];
    for (let i = 0; i < params.length - 2; i += 2) {
      this.hiddenLayers.push(new HiddenLayer(params.slice(i, i + 2), ACTIVATIONS[activation]));
    }
    this.logRegressionLayer = new LogisticRegression(params.slice(-2));
  }

  p_y_given_x(x) {
    for (const layer of this.hiddenLayers) x = layer.output(x);
    return this.logRegressionLayer.p_y_given_x(x);
  }
}

MODELS.mlp = (params, sizes) => new MLP(params, sizes);
