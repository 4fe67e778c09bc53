"""``das3r bench``: published protocols, das3r and its baselines measured side by side, and a report of it.

::

    run.py        which measurements there are; runs what is missing, each in a process of its own
    process.py    that process: runs one job
    job.py        a job: one sequence, and the front end or one method of training
    measure_front_end.py   masks and cameras against ground truth
    measure_splats.py      trains, renders held-out frames and clean plates
    tables.py     records -> one table per metric, published rows beside ours
    report.py     terminal, JSON, CSV; html.py one self-contained page
"""
