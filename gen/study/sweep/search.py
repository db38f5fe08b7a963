"""Which points of a space are measured: all, some at random, or those that Optuna asks for.

A chooser gives points in lots, is told what became of each, and ends when it has had its number of
distinct points.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from systolith.gen.kit.errors import UserError
from systolith.gen.report.metrics import METRICS

from .point import Point
from .space import Space

__all__ = ["STUDY", "Chooser", "Outcome", "open_chooser"]

#: Optuna's journal in a sweep's folder.
STUDY = "study.log"
#: Points of a lot: NSGA-II's generation.
_LOT = 20
#: Trials for each evaluation that is wanted, before the search gives up looking for new points.
_PATIENCE = 50


@dataclass(frozen=True)
class Outcome:
    """What became of a point: the objectives' figures, None where one is not known, and how many
    constraints do not hold."""
    values: list[float] | None
    violated: int = 0


class Chooser(Protocol):
    """Chooses points."""

    def lots(self) -> Iterator[list[Point]]:
        """Points to measure together; `tell` is called for each before the next lot."""

    def tell(self, point: Point, outcome: Outcome) -> None:
        """What became of a point of the last lot."""


class _All:
    """All points at once."""

    def __init__(self, space):
        self.space = space

    def lots(self):
        yield self.space.points

    def tell(self, point, outcome):
        pass


class _Random:
    """So many points at random, without repetition; the same ones for the same seed."""

    def __init__(self, space, evaluations, seed):
        self.space, self.evaluations, self.seed = space, evaluations, seed

    def lots(self):
        size = self.space.size
        order = random.Random(self.seed)
        found: list[Point] = []
        numbers = (order.sample(range(size), size) if size <= 1 << 20 else
                   _distinct(order, size, self.evaluations * _PATIENCE))
        for number in numbers:
            if len(found) == self.evaluations:
                break
            point = self.space.point(number)
            if point is not None:
                found.append(point)
        yield found

    def tell(self, point, outcome):
        pass


def _distinct(order, size, limit):
    """Up to so many distinct numbers below `size`."""
    seen: set[int] = set()
    for _ in range(limit):
        number = order.randrange(size)
        if number not in seen:
            seen.add(number)
            yield number


class _Optuna:
    """Points that a sampler of Optuna asks for.

    Every axis of every group is a number from 0 to 1, so that groups share the axes that they have
    in common, and the group is one more. Trials of which a killed run left nothing are asked for
    again.
    """

    def __init__(self, space, evaluations, study):
        self.space, self.evaluations, self.study = space, evaluations, study
        self.axes = list(dict.fromkeys(axis.name for group in space.groups for axis in group.axes))
        self.waiting: dict[str, list] = {}
        self.outcomes: dict[str, Outcome] = {}

    def lots(self):
        from optuna.trial import TrialState
        earlier = {}
        for trial in self.study.get_trials(deepcopy=False):
            if "point" in trial.user_attrs and trial.state.is_finished():
                point = self._point(trial.params)
                if point is not None:
                    earlier[point.id] = point
        if earlier:
            yield list(earlier.values())
        known, asked = set(earlier), 0
        while len(known) < self.evaluations and asked < self.evaluations * _PATIENCE:
            lot: dict[str, Point] = {}
            for _ in range(_LOT):
                asked += 1
                trial = self.study.ask()
                # All axes, so that all trials have the same: samplers need that.
                point = self._point({name: trial.suggest_float(name, 0, 1) for name in
                                     ("group", *self.axes)})
                if point is None:
                    self.study.tell(trial, state=TrialState.FAIL)
                    continue
                trial.set_user_attr("point", point.id)
                if point.id in self.outcomes:
                    self._tell(trial, self.outcomes[point.id])
                    continue
                self.waiting.setdefault(point.id, []).append(trial)
                lot[point.id] = point
                if len(known | set(lot)) >= self.evaluations:
                    break
            known |= set(lot)
            if lot:
                yield list(lot.values())

    def _point(self, shares):
        """The point that a trial's numbers stand for; None where a condition forbids it."""
        groups = self.space.groups
        chosen = groups[_place(shares["group"], len(groups))]
        number = 0
        for axis in chosen.axes:
            number = number * len(axis.choices) + _place(shares[axis.name], len(axis.choices))
        return chosen.point(number)

    def tell(self, point, outcome):
        self.outcomes[point.id] = outcome
        for trial in self.waiting.pop(point.id, []):
            self._tell(trial, outcome)

    def _tell(self, trial, outcome):
        from optuna.trial import TrialState
        trial.set_constraint("violated", float(outcome.violated))
        if outcome.values is None:
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.tell(trial, outcome.values)


def _place(share, number):
    """Which of so many choices a number from 0 to 1 stands for."""
    return min(int(share * number), number - 1)


@contextmanager
def open_chooser(space: Space, folder: Path, storage: str | None = None) -> Iterator[Chooser]:
    """The `Chooser` for a space's search. Optuna's trials are kept in the folder, or in the
    database of an SQLAlchemy URL. Raises UserError."""
    search = space.search
    evaluations = search.evaluations or space.size
    if search.method == "grid":
        yield _All(space)
    elif search.method == "random":
        yield _Random(space, evaluations, search.seed)
    else:
        with _kept(space, folder, storage) as kept:
            study = _study(space, kept)
            if storage is None:
                _ask_again(study)
            yield _Optuna(space, min(evaluations, space.size), study)


@contextmanager
def _kept(space, folder, storage):
    """Where Optuna keeps its trials."""
    try:
        import optuna
        from optuna.storages import JournalStorage, RDBStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise UserError(f"search method {space.search.method!r} needs Optuna: pip install "
                        "'systolith[sweep]'; grid and random need nothing") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if storage is None:
        yield JournalStorage(JournalFileBackend(str(folder / STUDY)))
        return
    kept = RDBStorage(storage)
    try:
        yield kept
    finally:
        kept.remove_session()
        kept.engine.dispose()


def _study(space, kept):
    import optuna
    from optuna.samplers import NSGAIISampler, TPESampler
    options: dict[str, Any] = {"seed": space.search.seed}
    sampler = (NSGAIISampler(population_size=_LOT, **options)
               if space.search.method == "nsga2" else
               TPESampler(multivariate=True, constant_liar=True, n_startup_trials=_LOT, **options))
    return optuna.create_study(
        storage=kept, sampler=sampler, study_name=_name(space), load_if_exists=True,
        directions=["maximize" if METRICS[name].better > 0 else "minimize"
                    for name in space.objectives])


def _ask_again(study):
    """Queue the trials that a killed run left unfinished; the folder is this process's alone."""
    from optuna.trial import TrialState
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            study.enqueue_trial(trial.params)


def _name(space):
    """The study's name: the same for the same groups, objectives and constraints."""
    facts = [[group.name, group.base, [[axis.name, axis.choices] for axis in group.axes],
              [condition.text for condition in group.conditions],
              [net.content for net in group.networks], group.target, group.dsp, group.part]
             for group in space.groups]
    text = json.dumps([facts, space.objectives, [item.text for item in space.constraints],
                       space.search.method, space.search.seed], sort_keys=True, default=str)
    return f"systolith-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
