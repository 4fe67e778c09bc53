"""Tasks on Ray: connecting, what the machines have, and chains of tasks. What runs where and when is Ray's affair."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from das3r_ns.errors import Das3rError

PATIENCE = 5.0
"""Seconds in which the head of a cluster answers."""
TICK = 1.0
"""Seconds after which a caller hears that nothing has happened."""
OBJECT_STORE = 100 << 20
"""Bytes for what tasks hand to each other: records, all of them small."""
OUT_OF_MEMORY_RETRIES = 3
"""How often Ray begins a task again that it stopped because its machine ran out of memory (locally; else the cluster's
own setting counts)."""

STARTS = 3
"""How often it is tried to start Ray on a machine that is busy."""
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}


@dataclass(frozen=True)
class Needs:
    """What a task is given, or a machine has."""

    cpus: float = 1
    gpus: float = 0
    memory: int = 0
    """Bytes."""

    def fits(self, machine: Needs) -> bool:
        """Whether a machine has as much."""
        return self.cpus <= machine.cpus and self.gpus <= machine.gpus and self.memory <= machine.memory


@dataclass(frozen=True)
class Task:
    """A call of a function of this package, on any machine."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    needs: Needs = field(default_factory=Needs)
    after: str | None = None
    """Name of the task in the same chain that must have gone well before."""


@dataclass(frozen=True)
class Outcome:
    """How a task ended."""

    chain: str
    task: Task
    value: Any = None
    error: Exception | None = None
    """What the function raised, or what became of its process or machine."""
    skipped: bool = False
    """It did not run, for what it waited for failed."""


def check_ray() -> None:
    """Raise a :class:`Das3rError` unless Ray is installed."""
    if importlib.util.find_spec("ray") is None:
        raise Das3rError(
            "Ray is not installed, on which many videos are worked on side by side. Install it with `pip install "
            "'das3r-ns[cluster]'`."
        )


@contextmanager
def connected(address: str | None, cpus: int | None = None) -> Iterator[Cluster]:
    """A cluster, or this machine alone; left again at the end, and ended where it was this machine alone.

    Args:
        address: auto, HOST:PORT or ray://HOST:PORT; None for this machine.
        cpus: Of this machine, where not all of them.

    Raises:
        Das3rError: Ray is not installed, or there is no cluster at the address.
    """
    check_ray()
    import ray

    already = ray.is_initialized()  # by whoever calls us: theirs to end
    if not already:
        if address is None:
            _start_here(cpus)
        else:
            _check_address(address)
            try:
                ray.init(address=address, **QUIET)
            except (Exception, SystemExit) as error:
                raise _unreachable(address, str(error)) from None
    try:
        yield Cluster()
    finally:
        if not already:
            ray.shutdown()


def _start_here(cpus: int | None) -> None:
    """Start Ray on this machine; again where it was too busy to do so in the time that Ray allows."""
    import ray

    for attempt in range(STARTS):
        try:
            ray.init(
                address="local",  # whatever RAY_ADDRESS says
                num_cpus=cpus,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE,
                _system_config={"task_oom_retries": OUT_OF_MEMORY_RETRIES},
                **QUIET,
            )
            return
        except Exception as error:  # Ray raises nothing more precise
            ray.shutdown()
            if attempt == STARTS - 1:
                raise Das3rError(
                    f"Ray does not start on this machine: {error} Its logs are in /tmp/ray/session_latest/logs."
                ) from None


def _check_address(address: str) -> None:
    """Knock before Ray does, which waits for minutes where nobody is."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if address in ("auto", "local"):
        return
    if not colon or not port.isdecimal():
        raise Das3rError(f"{address} is no address of a Ray cluster (--address): auto, HOST:PORT or ray://HOST:PORT.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except OSError as error:
        raise _unreachable(address, str(error)) from None


def _unreachable(address: str, reason: str) -> Das3rError:
    first = (reason.strip().splitlines() or ["no reason given"])[0]
    return Das3rError(
        f"No Ray cluster answers at {address} (--address): {first} Start one with `ray start --head`, name the address "
        "that it prints, or leave --address out to work on this machine alone."
    )


class Cluster:
    """What :func:`connected` gives."""

    def machines(self) -> list[Needs]:
        """What each machine that is there has in all."""
        import ray

        resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return [Needs(r.get("CPU", 0), r.get("GPU", 0), int(r.get("memory", 0))) for r in resources]

    def side_by_side(self, needs: Needs) -> int:
        """How many tasks of such needs the machines take at the same time."""
        counts = []
        for machine in self.machines():
            pairs = ((machine.cpus, needs.cpus), (machine.gpus, needs.gpus), (machine.memory, needs.memory))
            counts.append(min(int(has // wants) for has, wants in pairs if wants))
        return sum(counts)

    def run(
        self,
        chains: Iterable[tuple[str, Sequence[Task]]],
        jobs: int,
        retries: int = 3,
        again: tuple[type[Exception], ...] = (),
    ) -> Iterator[Outcome | None]:
        """Run chains of tasks; a task waits only for the one that it names.

        Args:
            chains: Name and tasks of each; drawn as there is room.
            jobs: Most chains at a time.
            retries: How often Ray begins a task again whose process or machine is lost.
            again: Exceptions of tasks that are as good as a lost process.

        Yields:
            How each task ended, as it ends; None where nothing has happened for a while.
        """
        import ray

        tried: dict[str, Any] = {"max_retries": retries, "retry_exceptions": list(again) or False}
        remote: Any = ray.remote(**tried)(_call)
        waiting = iter(chains)
        pending: dict[Any, tuple[str, Task]] = {}
        left: dict[str, int] = {}
        failed: set[tuple[str, str | None]] = set()
        while True:
            while len(left) < jobs and (chain := next(waiting, None)) is not None:
                name, tasks = chain
                pending |= {reference: (name, task) for reference, task in _submit(remote, tasks)}
                left[name] = len(tasks)
            if not pending:
                return
            done, _ = ray.wait(list(pending), num_returns=1, timeout=TICK)
            if not done:
                yield None
            for reference in done:
                name, task = pending.pop(reference)
                left[name] -= 1
                if not left[name]:
                    del left[name]
                outcome = _outcome(name, task, reference, (name, task.after) in failed)
                if outcome.error is not None or outcome.skipped:
                    failed.add((name, task.name))
                yield outcome


def _submit(remote: Any, tasks: Sequence[Task]) -> Iterator[tuple[Any, Task]]:
    references: dict[str | None, Any] = {}
    for task in tasks:
        needs = {"num_cpus": task.needs.cpus, "num_gpus": task.needs.gpus, "memory": task.needs.memory or None}
        # Ray starts a task when its arguments are there, and not at all where one of them is an error.
        before = [references[task.after]] if task.after in references else []
        references[task.name] = remote.options(name=task.name, **needs).remote(task.function, task.arguments, *before)
        yield references[task.name], task


def _call(function: Callable[..., Any], arguments: tuple[Any, ...], *before: Any) -> Any:
    return function(*arguments)


def _outcome(chain: str, task: Task, reference: Any, skipped: bool) -> Outcome:
    import ray
    from ray.exceptions import RayError

    try:
        value = ray.get(reference)
    except RayError as error:
        if skipped:
            return Outcome(chain, task, skipped=True)
        cause = getattr(error, "cause", None)
        return Outcome(chain, task, error=cause if isinstance(cause, Exception) else error)
    return Outcome(chain, task, value)
