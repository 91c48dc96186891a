"""Keep the records of finished runs for the book, in ``results``; ``figures.py`` calls this."""

import json
import shutil
import statistics
from pathlib import Path

from support.folders import read_record, write_json

from reproduce import JOBS

RESULTS = Path(__file__).resolve().parent / 'results'

# The output folder of each script, by the name of its record.
RUNS = {name: job.output for name, job in JOBS.items() if job.is_training}
# Further records, as the scripts have written them.
RECORDS = {'ais_cd1': 'rbm_cd1/ais.json', 'ais_pcd15': 'rbm_pcd15/ais.json',
           'ais_cd25': 'rbm_cd25/ais.json', 'ais_dbn': 'DBN_output/ais.json',
           'rbm_long': 'rbm_long/run.json', 'ais_long': 'rbm_long/ais.json',
           'rbm_centred': 'rbm_centred/run.json', 'ais_centred': 'rbm_centred/ais.json',
           'DBN_generative': 'DBN_generative/run.json',
           'ais_generative': 'DBN_generative/ais.json',
           'rnnrbm_chorales': 'rnnrbm_chorales/run.json',
           'rnnrbm_chorales_evaluation': 'rnnrbm_chorales/evaluation_test.json',
           'rnnrbm_adam': 'rnnrbm_adam/run.json',
           'rnnrbm_adam_evaluation': 'rnnrbm_adam/evaluation_test.json',
           'rnnrbm_evaluation': 'rnnrbm_output/evaluation_test.json',
           'rnnrbm_best': 'rnnrbm_best/run.json',
           'rnnrbm_best_evaluation': 'rnnrbm_best/evaluation_test.json'}


def keep_records(folder: Path) -> None:
    """Copy settings, scores and histories of finished runs, and the pictures that they drew."""
    for name, output in RUNS.items():
        path = folder / output / 'run.json'
        if path.exists() and json.loads(path.read_text(encoding='utf-8'))['status'] == 'finished':
            keep_record(path, name)
            shutil.copyfile(folder / output / 'history.csv', RESULTS / f'{name}.csv')
    for name, path in RECORDS.items():
        if (folder / path).exists():
            keep_record(folder / path, name)
    if (folder / 'rnnrbm_adam').exists():  # for a figure
        shutil.copyfile(folder / 'rnnrbm_adam' / 'history.csv', RESULTS / 'rnnrbm_adam.csv')


def keep_record(path: Path, name: str) -> None:
    """Copy a record, but for the process that wrote it, which says whose machine it was, and for
    where the command wrote and that it went on, which change nothing in what comes out."""
    record = json.loads(path.read_text(encoding='utf-8'))
    record.pop('process', None)
    if 'command' in record:
        words = [word for word in record['command'] if word != '--resume']
        record['command'] = [word for word, before in zip(words, ['', *words], strict=False)
                             if '--output-folder' not in (word, before)]
    write_json(RESULTS / f'{name}.json', record)


def keep_elsewhere(folder: Path, name: str) -> None:
    """The scores and seconds of runs on another machine, for a table beside our own."""
    runs = {script: read_record(folder / output) for script, output in RUNS.items()
            if (folder / output).exists()}
    write_json(RESULTS / f'{name}.json',
               {script: {key: run[key] for key in ('scores', 'seconds')}
                for script, run in runs.items() if run['status'] == 'finished'})


def keep_seeds(folder: Path) -> None:
    """The scores of runs with other seeds, beside those of the script's own, for each script."""
    path = RESULTS / 'seeds.json'
    seeds = json.loads(path.read_text(encoding='utf-8')) if path.exists() else {}
    for name, output in RUNS.items():
        runs = [read_record(run) for run in
                [*folder.glob(output), *sorted(folder.glob(f'{output}_seed_*'))]
                if (run / 'run.json').exists()]
        finished = [run['scores'] for run in runs if run['status'] == 'finished']
        if len(finished) > 1:
            seeds[name] = finished
    write_json(path, seeds)


def keep_memory(folder: Path) -> None:
    """The most megabytes that each script of a reproduction took."""
    if not (folder / 'run.json').exists():  # no reproduction
        return
    path = RESULTS / 'megabytes.json'
    most = json.loads(path.read_text(encoding='utf-8')) if path.exists() else {}
    for label, notes in read_record(folder).get('processes', {}).items():
        name, _, _ = label.partition('_seed_')
        if notes['status'] == 0 and name in RUNS and notes['megabytes']:
            most[name] = max(most.get(name, 0), notes['megabytes'])
    write_json(path, most)


def keep_study(folder: Path) -> None:
    """What a search has cost and found, in ``sda_search``, and how its settings, and the book's, do
    with other seeds, in ``sda_found_1``, ``sda_book_1`` and so on."""
    if not (folder / 'sda_search').exists():
        return
    trials = [read_record(path.parent) for path in folder.glob('sda_search/trial_*/run.json')]
    finished = [trial for trial in trials if trial['status'] == 'finished']
    best = min(finished, key=lambda trial: trial['scores']['best_validation_error'])
    study: dict = {
        'trials': len(trials), 'pruned': len(trials) - len(finished),
        'minutes': sum(sum(trial['seconds'].values()) for trial in trials) / 60,
        'best': {**best['settings'], **best['scores']}}
    for name in ('found', 'book'):
        runs = [read_record(path)['scores'] for path in folder.glob(f'sda_{name}_*')]
        for score in ('best_validation_error', 'test_error'):
            values = [run[score] for run in runs]
            study[f'{name} {score}'] = {'mean': statistics.fmean(values),
                                        'deviation': statistics.stdev(values), 'n': len(values)}
    write_json(RESULTS / 'study.json', study)
