'use strict';
// After: engine.js
/* Hybrid Monte Carlo in two dimensions: code/hmc/hmc.py, for one chain, and with a mass.

   An energy is {energy(pos), gradient(pos)}, of positions [x, y]. The velocity of a ball of mass m
   is normally distributed with the variance 1 / m.
*/

const kinetic_energy = ([vx, vy], mass) => 0.5 * mass * (vx ** 2 + vy ** 2);

const hamiltonian = (pos, vel, mass, {energy}) => energy(pos) + kinetic_energy(vel, mass);

/** Whether to move: with probability min(1, exp(prev - next)). NaN and infinity stay behind. */
const metropolis_hastings_accept = (energyPrev, energyNext, rng) =>
  rng.uniform() < Math.exp(energyPrev - energyNext);

/** Leapfrog steps, one at a time: yields the position and the velocity after each. */
function* simulate_dynamics(pos, vel, stepsize, nSteps, mass, {gradient}) {
  const push = (vel, pos) => {
    const slope = gradient(pos);
    return vel.map((v, i) => v - stepsize / 2 * slope[i] / mass);
  };
  for (let step = 0; step < nSteps; step++) {
    vel = push(vel, pos);
    pos = pos.map((s, i) => s + stepsize * vel[i]);
    vel = push(vel, pos);
    yield {pos, vel};
  }
}

/** A move: yields each point of the path as {pos, error}, the error being how much the energy has
    changed, and returns {pos, accepted, error} in the end. */
function* hmc_move(rng, positions, energyFn, stepsize, nSteps, mass) {
  const vel = positions.map(() => rng.normal() / Math.sqrt(mass));
  const before = hamiltonian(positions, vel, mass, energyFn);
  let after = before, end = positions;
  yield {pos: positions, error: 0};
  for (const point of simulate_dynamics(positions, vel, stepsize, nSteps, mass, energyFn)) {
    after = hamiltonian(point.pos, point.vel, mass, energyFn);
    end = point.pos;
    yield {pos: end, error: after - before};
  }
  const accepted = metropolis_hastings_accept(before, after, rng);
  return {pos: accepted ? end : positions, accepted, error: after - before};
}

/** A random walk for comparison: a step in a random direction, taken or not. */
function random_walk_move(rng, pos, {energy}, stepsize) {
  const proposed = pos.map(s => s + stepsize * rng.normal());
  return metropolis_hastings_accept(energy(pos), energy(proposed), rng) ? proposed : pos;
}

/** A Gaussian with variances 1 and a correlation: E(s) is half of s times the inverse covariance
    times s. */
function gaussian_energy(correlation) {
  const scale = 1 / (1 - correlation ** 2);
  return {
    energy: ([x, y]) => 0.5 * scale * (x * x - 2 * correlation * x * y + y * y),
    gradient: ([x, y]) => [scale * (x - correlation * y), scale * (y - correlation * x)],
  };
}

/** A ring of this radius: across it, a Gaussian with this standard deviation. */
function ring_energy(radius, width) {
  return {
    energy: ([x, y]) => 0.5 * ((Math.hypot(x, y) - radius) / width) ** 2,
    gradient([x, y]) {
      const r = Math.hypot(x, y) || 1;
      return [x, y].map(s => (r - radius) / width ** 2 * s / r);
    },
  };
}

/** Two round Gaussians of one size, at (-distance, 0) and (distance, 0). */
function two_modes_energy(distance, width) {
  const bowls = ([x, y]) => [-distance, distance].map(
    centre => -0.5 * ((x - centre) ** 2 + y ** 2) / width ** 2);
  return {
    energy(pos) {
      const [left, right] = bowls(pos);
      return -Math.max(left, right) - softplus(-Math.abs(left - right));
    },
    gradient(pos) {
      const [left, right] = bowls(pos);
      const isRight = sigmoid(right - left);  // the share of the right one here
      return [(pos[0] + distance * (1 - 2 * isRight)) / width ** 2, pos[1] / width ** 2];
    },
  };
}
