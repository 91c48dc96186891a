'use strict';
// After: dA.js
/* Contractive auto-encoder: code/cA.py. */

/** The Frobenius norm of the Jacobian of the code: how much it moves with the image. */
function get_jacobian_norm(model, hidden) {
  const {data, shape: [, nHidden]} = model.W;
  const squares = new Float64Array(nHidden);
  data.forEach((w, k) => { squares[k % nHidden] += w * w; });
  return Math.sqrt(sum(squares.map((square, j) => (hidden[j] * (1 - hidden[j])) ** 2 * square)));
}
