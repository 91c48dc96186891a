"""Workers for a search as jobs of Slurm; its last line is the --scheduler of search.py."""

import signal

from dask_jobqueue import SLURMCluster

with SLURMCluster(cores=1, processes=1, memory='4GB', walltime='08:00:00', job_script_prologue=[
        'export NPROC=1 OMP_NUM_THREADS=1 PYTHONPATH=$SLURM_SUBMIT_DIR/code']) as cluster:
    cluster.scale(20)
    print(cluster.scheduler_address, flush=True)
    signal.pause()
