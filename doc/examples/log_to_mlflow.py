"""Log a run to MLflow, which shows it by ``mlflow ui``; ``$MLFLOW_TRACKING_URI`` says where."""

import mlflow

import mlp


def log(epoch, row):
    mlflow.log_metrics({name: value for name, value in row.items() if isinstance(value, float)},
                       step=epoch + 1)


settings = {'dataset': 'digits', 'n_epochs': 3, 'n_hidden': 50}
with mlflow.start_run():
    mlflow.log_params(settings)
    result = mlp.train(**settings, after_epoch=log)
    mlflow.log_metrics({f'final_{name}': value for name, value in result.scores.items()})
