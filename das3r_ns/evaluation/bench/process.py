"""One measurement, in a process of its own so that its memory is its own.

``python -m das3r_ns.evaluation.bench.process JOB.json RECORD.json``
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from das3r_ns.errors import Das3rError
from das3r_ns.evaluation.bench.job import Job, Record, read_job
from das3r_ns.evaluation.bench.measure_front_end import measure_front_end
from das3r_ns.evaluation.bench.measure_splats import measure_splats
from das3r_ns.files import write_json


def run_job(job: Job) -> Record:
    """Measure; a failure is a record too."""
    try:
        if job.method is None:
            return measure_front_end(job)
        return measure_splats(job)
    except Das3rError as error:
        return {"failed": str(error)}
    except Exception as error:
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {error}", "unexpected": True}


def main() -> None:
    """Entry point of the process."""
    source, target = map(Path, sys.argv[1:])
    write_json(target, run_job(read_job(source)))


if __name__ == "__main__":
    main()
