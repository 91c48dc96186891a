'use strict';
/* Early stopping: code/support/training.py, on a run that is over. */

/** Where training would have stopped that was validated after every epoch.

    `errors` are the validation errors by epoch, and `nTrainBatches` the updates in an epoch. Returns
    how many updates would have been made, the number of the best epoch from 0, the patience after
    each epoch, and whether the rule has ended the run, or only the record. */
function train_with_early_stopping(errors, nTrainBatches, {patience, improvement_threshold,
                                                           patience_increase = 2}) {
  const patiences = [];
  let bestEpoch = -1, best = Infinity;
  for (let epoch = 0; ; epoch++) {
    const iter = (epoch + 1) * nTrainBatches - 1;  // of the last update, counted from 0
    if (patience < iter) {  // ends before it, or has ended with the epoch before
      const updates = Math.max(patience + 1, epoch * nTrainBatches);
      return {updates, bestEpoch, patiences, isOver: true};
    }
    if (epoch === errors.length) {
      return {updates: epoch * nTrainBatches, bestEpoch, patiences, isOver: false};
    }
    if (errors[epoch] < best * improvement_threshold) {
      patience = Math.max(patience, iter * patience_increase);
    }
    if (errors[epoch] < best) [best, bestEpoch] = [errors[epoch], epoch];
    patiences.push(patience);
  }
}
