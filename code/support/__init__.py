"""What the chapters stand on: the engine, data sets, training, checkpoints, music."""
