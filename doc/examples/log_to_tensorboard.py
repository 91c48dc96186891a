"""Log a run to TensorBoard, which shows it by ``tensorboard --logdir tensorboard_logs``."""

from tensorboardX import SummaryWriter

import mlp

with SummaryWriter('tensorboard_logs') as writer:
    def log(epoch, row):
        for name, value in row.items():
            if isinstance(value, float):
                writer.add_scalar(f'{row["stage"]}/{name}', value, epoch + 1)

    mlp.train(dataset='digits', n_epochs=3, n_hidden=50, after_epoch=log)
