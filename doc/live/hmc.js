'use strict';
// After: engine.js
/* Hybrid Monte Carlo in the plane: code/hmc/hmc.py, of one chain, for a ball of any mass.

   Positions and velocities are [x, y]. An energy function has `energy(pos)`, and its `gradient`. */

/** A Gaussian with mean 0, variances 1 and this correlation. */
function gaussian(correlation) {
  const determinant = 1 - correlation ** 2;
  return {
    energy: ([x, y]) => (x * x - 2 * correlation * x * y + y * y) / (2 * determinant),
    gradient: ([x, y]) => [(x - correlation * y) / determinant, (y - correlation * x) / determinant],
  };
}

/** A ring about 0, normal in its radius. */
function ring(radius, deviation) {
  return {
    energy: pos => (Math.hypot(...pos) - radius) ** 2 / (2 * deviation ** 2),
    gradient: pos => {
      const r = Math.hypot(...pos) || 1e-9;
      return pos.map(value => (r - radius) / deviation ** 2 * value / r);
    },
  };
}

/** A mixture of two round Gaussians at [-distance, 0] and [distance, 0]. */
function modes(distance, deviation) {
  const exponents = ([x, y]) => [-distance, distance].map(
    middle => -((x - middle) ** 2 + y * y) / (2 * deviation ** 2));
  return {
    energy: pos => {
      const both = exponents(pos);
      const largest = Math.max(...both);
      return -largest - Math.log(sum(both.map(value => Math.exp(value - largest))) / 2);
    },
    gradient: pos => {
      const [left, right] = softmax(exponents(pos));
      return [(pos[0] + (left - right) * distance) / deviation ** 2, pos[1] / deviation ** 2];
    },
  };
}

const kinetic_energy = (vel, mass) => mass * sum(vel.map(value => value * value)) / 2;

const hamiltonian = (pos, vel, {energy}, mass) => energy(pos) + kinetic_energy(vel, mass);

const metropolis_hastings_accept = (energy_prev, energy_next, rng) =>
  rng.uniform() < Math.exp(energy_prev - energy_next);

/** The leapfrog: all positions and velocities from the start on, n_steps + 1 of [pos, vel]. */
function simulate_dynamics(pos, vel, stepsize, n_steps, {gradient}, mass) {
  const moved = (from, by, factor) => from.map((value, axis) => value + factor * by[axis]);
  const path = [[pos, vel]];
  for (let step = 0; step < n_steps; step++) {
    const half = moved(vel, gradient(pos), -stepsize / 2 / mass);
    pos = moved(pos, half, stepsize);
    vel = moved(half, gradient(pos), -stepsize / 2 / mass);
    path.push([pos, vel]);
  }
  return path;
}

/** A new velocity, the path it leads along, and whether its end is accepted. */
function hmc_move(rng, pos, energy_fn, stepsize, n_steps, mass) {
  const vel = pos.map(() => rng.normal() / Math.sqrt(mass));
  const path = simulate_dynamics(pos, vel, stepsize, n_steps, energy_fn, mass);
  const energies = path.map(([pos, vel]) => hamiltonian(pos, vel, energy_fn, mass));
  return {path, energies, accept: metropolis_hastings_accept(energies[0], energies.at(-1), rng)};
}

/** A step of a random walk as long as the first of a path: where it leads, and whether it is
    accepted. */
function random_walk_move(rng, pos, {energy}, stepsize, mass) {
  const end = pos.map(value => value + stepsize * rng.normal() / Math.sqrt(mass));
  return {end, accept: metropolis_hastings_accept(energy(pos), energy(end), rng)};
}
