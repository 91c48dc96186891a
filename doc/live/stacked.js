'use strict';
// After: mlp.js
/* Stacked denoising auto-encoders and deep belief networks, finetuned: code/stacked.py. */

class StackedNetwork extends MLP {
  constructor(params) {
    super(params, {activation: 'sigmoid'});
  }
}

MODELS.stacked = params => new StackedNetwork(params);
