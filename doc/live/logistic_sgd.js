'use strict';
// After: engine.js
/* Logistic regression: code/logistic_sgd.py. */

class LogisticRegression {
  /** W of (n_in, n_out) and b of (n_out). */
  constructor([W, b]) {
    this.W = W;
    this.b = b;
  }

  p_y_given_x(x) {
    return softmax(plus(dot(x, this.W), this.b.data));
  }
}

MODELS.logistic_sgd = params => new LogisticRegression(params);
