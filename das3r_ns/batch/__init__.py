"""``das3r batch``: many videos, each a chain of steps, on one machine or a cluster.

::

    videos.py     which videos: files, folders, globs, manifests
    steps.py      the steps of a video: what each runs, needs, and depends on
    look.py       on a worker: what a video is, before anything is computed
    work.py       on a worker: one step, from a temporary folder to its record
    place.py      where results lie: in a folder that all machines see, or in a store
    storage.py    the store, by fsspec; stored.py on a worker: a look or a step that fetches and puts
    command.py    a command in a process of its own, which ends when its parent does
    cluster.py    Ray: where tasks run, and what happens when one of them fails
    plan.py       which steps of a video are missing
    run.py        checks, and runs what is missing
    report.py     batch.json; html.py one self-contained page; table.py the terminal
"""
