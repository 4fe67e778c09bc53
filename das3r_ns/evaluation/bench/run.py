"""Runs the measurements of a benchmark, each in a process of its own, and goes on where an earlier run stopped."""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

from das3r_ns import __version__
from das3r_ns.batch.cluster import Needs, Task, connected
from das3r_ns.batch.command import how_it_ended, last_words, run_command
from das3r_ns.errors import Das3rError
from das3r_ns.evaluation.bench.config import Base, BenchConfig
from das3r_ns.evaluation.bench.job import Job, Record, write_job
from das3r_ns.evaluation.methods import METHODS, check_methods
from das3r_ns.evaluation.protocols import Protocol, load_protocol
from das3r_ns.evaluation.readers import find_sequences, open_sequence
from das3r_ns.files import make_paths_whole, write_json
from das3r_ns.progress import Progress

CPUS, MEMORY = 4, 4 << 30
"""Of one measurement on a cluster; memory in bytes."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """What a run is about."""

    config: BenchConfig
    protocol: Protocol
    base: Base
    methods: list[str]
    sequences: list[str]

    @classmethod
    def plan(cls, config: BenchConfig) -> Bench:
        """Resolve everything that the settings leave open.

        Raises:
            Das3rError: A protocol, method or sequence does not exist, the set has none of the sequences, or a setting
                makes no sense.
        """
        _check(config)
        protocol = load_protocol(config.protocol)
        check_methods(config.methods)
        methods = list(dict.fromkeys(config.methods)) or [_fitting_preset()]
        if config.front_end_only:
            methods = []
        named = [base for base in get_args(Base) if base in config.methods]
        base = config.base or (named[0] if named else _fitting_preset())
        # What is to be shown comes before what it is compared with, in the tables and where a run is cut short.
        methods.sort(key=lambda name: METHODS[name].baseline)
        return cls(config, protocol, base, methods, _sequences(config, protocol))

    def jobs(self) -> Iterator[Job]:
        """All measurements, sequence after sequence."""
        for sequence in self.sequences:
            yield Job(self.config, sequence, None, self.base)
            if not self.protocol.splats.sequences or sequence in self.protocol.splats.sequences:
                for method in self.methods:
                    yield Job(self.config, sequence, method, self.base)


def _check(config: BenchConfig) -> None:
    if config.output_dir.exists() and not config.output_dir.is_dir():
        raise Das3rError(f"{config.output_dir} is a file. Name a folder for the report (--output-dir).")
    if config.max_iterations is not None and config.max_iterations < 1:
        raise Das3rError(
            f"No method can be trained for {config.max_iterations} steps (--max-iterations): take 1 or more."
        )
    if config.num_frames is not None and config.num_frames < 2:
        raise Das3rError(f"No video has {config.num_frames} frames (--num-frames): take 2 or more.")


def _fitting_preset() -> Base:
    from das3r_ns.rasterization.backend import expected_obstacle

    return "das3r" if expected_obstacle() is None else "das3r-light"


def _sequences(config: BenchConfig, protocol: Protocol) -> list[str]:
    if not config.data.is_dir():
        raise Das3rError(f"{config.data} is not a folder. Name the root of the data set with --data.")
    available = list(protocol.front_end.sequences) or find_sequences(config.data)
    if unknown := [name for name in config.sequences if name not in available]:
        raise Das3rError(f"There is no sequence {', '.join(unknown)}. There are: {', '.join(available)}.")
    chosen = [name for name in available if name in config.sequences] if config.sequences else available
    reasons = []
    for name in chosen:
        try:
            open_sequence(protocol.layout, config.data, name)
            return chosen
        except Das3rError as error:
            reasons.append(str(error))
    raise Das3rError(f"{config.data} holds no sequence of the protocol {protocol.name}. For one: {reasons[0]}")


def run_bench(
    config: BenchConfig, progress: Progress, measure: Callable[[Job], Record] | None = None
) -> dict[str, Any]:
    """Measure what is missing; failures are reported and do not stop the rest.

    Args:
        config: What to measure.
        progress: Where to report.
        measure: How; in a process of its own if None.

    Returns:
        Everything known: settings, machine, and the record of every sequence and method.

    Raises:
        Das3rError: Nothing at all can be measured.
    """
    from das3r_ns.evaluation.machine import describe_machine

    # The workers of other machines start elsewhere.
    config = dataclasses.replace(
        copy.deepcopy(config), data=config.data.absolute(), output_dir=config.output_dir.absolute()
    )
    make_paths_whole(config)
    bench = Bench.plan(config)
    jobs = list(bench.jobs())
    machine = describe_machine()
    results: dict[str, dict[str, Record]] = {name: {} for name in bench.sequences}
    missing = []
    for job in jobs:
        record = None if config.fresh else _known(job.file("records", ".json"), settings_of(job))
        if record is None:
            missing.append(job)
        else:
            progress.say(f"{job.sequence}, {job.name}: measured before.")
            results[job.sequence][job.name] = record
    measured = _on_cluster if config.address is not None else _one_by_one
    for job, found in measured(missing, config, progress, measure or in_own_process):
        record = {"machine": machine, **found, "settings": settings_of(job), "date": _today()}
        write_json(job.file("records", ".json"), record)
        for problem in [record["failed"]] if "failed" in record else record.get("problems", []):
            progress.say(f"  {job.sequence}, {job.name}: {problem}")
        results[job.sequence][job.name] = record
    # The options stand at the head of the report; folders are this machine's affair.
    results = {
        sequence: {
            job.name: {key: value for key, value in records[job.name].items() if key != "settings"}
            for job in jobs
            if job.sequence == sequence
        }
        for sequence, records in results.items()
    }
    return {
        "protocol": bench.protocol.name,
        "description": bench.protocol.description,
        "data": config.data.resolve().name,
        "base": bench.base,
        "methods": bench.methods,
        "sequences": bench.sequences,
        "options": {k: v for k, v in config.settings("splats").items() if k not in ("protocol", "base")},
        "machine": machine,
        "das3r_version": __version__,
        "records": results,
    }


def _one_by_one(
    jobs: list[Job], config: BenchConfig, progress: Progress, measure: Callable[[Job], Record]
) -> Iterator[tuple[Job, Record]]:
    for number, job in enumerate(jobs, 1):
        with progress.stage(f"{number} of {len(jobs)}: {job.sequence}, {job.name}"):
            record = measure(job)
        yield job, record


def _on_cluster(
    jobs: list[Job], config: BenchConfig, progress: Progress, measure: Callable[[Job], Record]
) -> Iterator[tuple[Job, Record]]:
    """Each sequence is a chain: the methods find in the cache what the front end's measurement has left."""
    with connected(config.address) as cluster:
        machines = cluster.machines()
        gpus = float(any(machine.gpus >= 1 for machine in machines))
        cpus = min(CPUS, max(machine.cpus for machine in machines))
        chains: dict[str, list[Task]] = {}
        for job in jobs:
            chain = chains.setdefault(job.sequence, [])
            needs = Needs(cpus, gpus if job.method else 0.0, MEMORY)
            chain.append(Task(job.name, _measured_there, (measure, job), needs, chain[-1].name if chain else None))
        by_name = {(job.sequence, job.name): job for job in jobs}
        with progress.stage("Measuring on the cluster", len(jobs)) as advance:
            for outcome in cluster.run(chains.items(), jobs=max(len(chains), 1)):
                if outcome is not None:
                    reason = outcome.error or "what it waited for was lost"
                    lost: Record = {"failed": f"Its process or machine was lost ({reason})."}
                    yield by_name[outcome.chain, outcome.task.name], outcome.value or lost
                    advance()


def _measured_there(measure: Callable[[Job], Record], job: Job) -> Record:
    from das3r_ns.evaluation.machine import describe_machine

    return {**measure(job), "machine": describe_machine()}


def settings_of(job: Job) -> dict[str, Any]:
    """What a record must have been measured with to be used again."""
    part = "splats" if job.method else "front_end"
    where = {"base": job.base, "data": str(job.config.data.resolve())}
    return {**job.config.settings(part), **where, "das3r_version": __version__}


def in_own_process(job: Job) -> Record:
    """Run one measurement in a process of its own; a failure is a record too."""
    log, output, source = job.file("logs", ".txt"), job.file("jobs", "-record.json"), job.file("jobs", ".json")
    write_job(job, source)
    output.unlink(missing_ok=True)
    command = [sys.executable, "-m", "das3r_ns.evaluation.bench.process", str(source), str(output)]
    code = run_command(command, log).code
    if output.is_file():
        return json.loads(output.read_text())
    return {"failed": f"The measurement ended without a result ({how_it_ended(code)}). {last_words(log)} See {log}."}


def _known(path: Path, settings: dict[str, Any]) -> Record | None:
    """A record of an earlier run with the same settings that did not fail."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return record if record.get("settings") == settings and "failed" not in record else None


def _today() -> str:
    from datetime import date

    return date.today().isoformat()
