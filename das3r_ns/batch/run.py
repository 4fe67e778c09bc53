"""Runs what is missing of a batch, and keeps its report up to date."""

from __future__ import annotations

import copy
import dataclasses
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, get_args

from filelock import FileLock, Timeout

from das3r_ns.batch.cluster import Cluster, Needs, Outcome, Task, check_ray, connected
from das3r_ns.batch.config import STEPS, BatchConfig, StepName
from das3r_ns.batch.look import Look
from das3r_ns.batch.place import SharedFolder, Stored
from das3r_ns.batch.plan import Plan
from das3r_ns.batch.report import Report
from das3r_ns.batch.steps import FOLLOWS, REQUIRES, Step, needs, steps_of
from das3r_ns.batch.storage import Storage
from das3r_ns.batch.table import LiveTable
from das3r_ns.batch.videos import Video, VideoOptions, find_videos
from das3r_ns.batch.work import MARKER, Interrupted, Record, StepFailed
from das3r_ns.errors import Das3rError
from das3r_ns.files import check_output_directory, make_paths_whole, remove_abandoned
from das3r_ns.frontend.config import given
from das3r_ns.progress import Progress

LOCK = ".batch.lock"


class StepsOf(Protocol):
    """What gives the steps of a video; :func:`~das3r_ns.batch.steps.steps_of` unless a test has simpler ones."""

    def __call__(
        self, video: Video, look: Look, output_dir: Path, wanted: tuple[StepName, ...], cpus: int
    ) -> list[Step]: ...


def run_batch(config: BatchConfig, progress: Progress, steps: StepsOf = steps_of) -> dict[str, Any]:
    """Do with every video what has not been done; failures are recorded and do not stop the rest.

    Args:
        config: Which videos, and what to do with them.
        progress: Where to report.
        steps: What a video's steps are.

    Returns:
        What ``batch.json`` holds.

    Raises:
        Das3rError: The videos, the manifest, the options or the cluster cannot be used; nothing has begun then.
    """
    started = time.time()
    wanted = _check(config)
    check_ray()
    config = copy.deepcopy(config)
    make_paths_whole(config)  # the workers of other machines start elsewhere
    options = VideoOptions(max_num_iterations=config.max_num_iterations)
    videos = find_videos(config.videos, options, given(config.front_end))
    output = config.output_dir.resolve()
    check_output_directory(output, MARKER)
    place = _place(config, output)
    videos = [place.settle(video) for video in videos]
    place.check()
    with connected(config.address) as cluster:
        machines = cluster.machines()
        gpus = int(any(machine.gpus >= 1 for machine in machines))
        preset = config.preset or ("das3r" if gpus else "das3r-light")
        videos = [video.with_preset(preset) for video in videos]
        cpus = int(min(config.cpus, max(machine.cpus for machine in machines)))
        place.begin()
        with _alone(output):
            report = Report(output, wanted, preset, started, place.publish)
            plans = []
            for video, look in _looks(cluster, videos, place, progress):
                plan = Plan(video, look)
                if look.failed is None:
                    plan.steps = steps(video, look, place.steps_in, wanted, cpus)
                    plan.needs = {step.name: needs(step.name, look, cpus, gpus, config.memory) for step in plan.steps}
                plans.append(plan)
            known = place.known(step for plan in plans for step in plan.steps)
            for plan in plans:
                records = {step.name: known.get((step.video, step.name)) for step in plan.steps}
                plan.records = {n: r for n, r in records.items() if r and not (config.retry_failed and "failed" in r)}
            place.gather(plan.video.name for plan in plans if plan.records)
            _check_trained(plans, wanted, place, steps, cpus)
            _check_room(plans, machines, cluster)
            report.add(plans)
            for plan in plans:
                remove_abandoned(output / plan.video.name)  # of workers that were killed
            _run(cluster, plans, config, place, report, progress)
            return report.write()


def _place(config: BatchConfig, output: Path) -> SharedFolder:
    if config.storage is None:
        return SharedFolder(output)
    return Stored(output, Storage(config.storage.rstrip("/")), config.scratch_dir or Path(tempfile.gettempdir()))


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Keep other batches from the same output folder; the lock of one that is killed is free again."""
    try:
        with FileLock(output / LOCK, timeout=0):
            yield
    except Timeout:
        raise Das3rError(
            f"Another das3r batch is at work in {output}. Wait until it has ended, or name another --output-dir."
        ) from None


def _check(config: BatchConfig) -> tuple[StepName, ...]:
    """The steps that are wanted, in their order; refuses settings that make no sense."""
    named = [word for text in config.steps for word in text.split(",") if word]
    if unknown := [name for name in named if name not in STEPS]:
        raise Das3rError(f"There is no step {unknown[0]} (--steps). There are: {', '.join(get_args(StepName))}.")
    for option in ("jobs", "cpus", "memory", "max_num_iterations"):
        value = getattr(config, option)
        if value is not None and value <= 0:
            raise Das3rError(f"--{option.replace('_', '-')} {value} makes no sense: take more than 0, or leave it out.")
    if not named or config.retries < 0:
        raise Das3rError("Name one step at least (--steps), and no negative number of --retries.")
    return tuple(name for name in STEPS if name in named)


def _looks(
    cluster: Cluster, videos: list[Video], place: SharedFolder, progress: Progress
) -> Iterator[tuple[Video, Look]]:
    """What every video is, in their order."""
    chains = [(video.name, [place.look(video)]) for video in videos]
    found: dict[str, Look] = {}
    with progress.stage("Looking at the videos", len(videos)) as advance:
        for outcome in cluster.run(chains, jobs=max(4 * cluster.side_by_side(Needs()), 1)):
            if outcome is not None:
                found[outcome.chain] = outcome.value or Look(failed=f"It cannot be looked at: {outcome.error}")
                advance()
    for video in videos:
        yield video, found[video.name]


def _check_trained(
    plans: list[Plan], wanted: tuple[StepName, ...], place: SharedFolder, steps: StepsOf, cpus: int
) -> None:
    """Refuse steps whose input no step makes and no earlier run has made."""
    for name in wanted:
        before = REQUIRES.get(name)
        if before is None or before in wanted:
            continue
        for plan in plans:
            if plan.look.failed is None:
                step = steps(plan.video, plan.look, place.steps_in, (before,), cpus)[0]
                if "failed" in place.known([step]).get((step.video, step.name), {"failed": ""}):
                    raise Das3rError(
                        f"The step {name} works on the result of {before}, and {plan.video.name} has none in {place} "
                        f"with these options. Add {before} to --steps."
                    )


def _check_room(plans: list[Plan], machines: list[Needs], cluster: Cluster) -> None:
    for plan in plans:
        for step in plan.missing:
            wants = plan.needs[step.name]
            if not any(wants.fits(machine) for machine in machines):
                best = max(machines, key=lambda machine: machine.memory)
                raise Das3rError(
                    f"No machine has room for the step {step.name} of {plan.video.name}, which takes {_words(wants)}; "
                    f"the one with the most memory lends Ray {_words(best)}. Use fewer or smaller frames "
                    "(--max-frames, --long-side) or a larger machine, or say how much it takes (--memory)."
                )


def _words(needs: Needs) -> str:
    return f"{needs.memory / 1e9:.1f} GB of memory, {needs.cpus:g} CPUs and {needs.gpus:g} GPUs"


def _run(
    cluster: Cluster,
    plans: list[Plan],
    config: BatchConfig,
    place: SharedFolder,
    report: Report,
    progress: Progress,
) -> None:
    """Run the missing steps of every video, and tell the report and the terminal of each."""
    todo = [plan for plan in plans if plan.missing]
    for plan in plans:
        for step in plan.missing:
            step.log.unlink(missing_ok=True)  # where it is, the step has begun
    of_one = max((wants for plan in todo for wants in plan.needs.values()), key=lambda w: w.memory, default=Needs())
    # Twice as many as the machines take: while one video trains on a GPU, the masks of the next are found beside it.
    jobs = config.jobs or max(2 * cluster.side_by_side(of_one), 1)
    by_name = {plan.video.name: plan for plan in todo}
    table = LiveTable(todo, report)
    chains = (_chain(table.begin(plan), place) for plan in todo)
    with progress.live(table.draw):
        for outcome in cluster.run(chains, jobs, config.retries, (Interrupted,)):
            if outcome is None:
                continue
            plan = by_name[outcome.chain]
            step = next(step for step in plan.steps if step.name == outcome.task.name)
            record = _record(step, outcome, place)
            if record is not None:
                place.gather([plan.video.name])
            report.done(plan.video.name, step.name, record)
            table.end(plan)
            if record is not None:
                told = f"failed. {record['failed']}" if "failed" in record else f"{record['seconds']:.1f} s"
                progress.say(f"{plan.video.name}, {step.name}: {told}")


def _chain(plan: Plan, place: SharedFolder) -> tuple[str, list[Task]]:
    missing = plan.missing
    names = {step.name for step in missing}
    tasks = []
    for step in missing:
        after = FOLLOWS.get(step.name)
        after = after if after in names else None
        tasks.append(dataclasses.replace(place.task(step), needs=plan.needs[step.name], after=after))
    return plan.video.name, tasks


def _record(step: Step, outcome: Outcome, place: SharedFolder) -> Record | None:
    """What became of a step; None where it did not run."""
    if outcome.skipped:
        return None
    if outcome.error is None:
        return outcome.value
    if isinstance(outcome.error, StepFailed):
        said = {"step": step.name, "key": step.key, "failed": str(outcome.error)}
        return place.known([step]).get((step.video, step.name), said)
    lines = str(outcome.error).strip().splitlines() or [type(outcome.error).__name__]
    record: Record = {"step": step.name, "key": step.key, "failed": place.lost(step, lines[0])}
    place.save(step, record)
    return record


def failures(results: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Video and paragraph of everything that failed, of what ``batch.json`` holds."""
    for name, video in results["videos"].items():
        if video.get("failed"):
            yield name, video["failed"]
        for step, record in video["steps"].items():
            if "failed" in record:
                yield f"{name}, {step}", record["failed"]
