"""The contents of report.json: what a build reached, as records that say what is in the file."""

from dataclasses import dataclass, field, fields
from typing import Any, Self

from systolith.gen.kit.notes import Note
from systolith.gen.measure.area import Area, Figures
from systolith.hw.spec.arch import Arch
from systolith.hw.spec.host import Layer, Section, Shape
from systolith.hw.spec.identity import identity
from systolith.hw.spec.records import FLAT, OPTIONAL, Record, RecordError
from systolith.sim.model.effort import LayerEffort
from systolith.sim.model.host_work import HostWork

from .profile import Cost

__all__ = ["BoardFit", "Chip", "Clock", "Cycles", "Memory", "Network", "Report", "ReportedLayer",
           "Tensor", "Used"]


@dataclass(frozen=True)
class Tensor(Record):
    """An input or output of the network; of an input also its map in memory, where the host lays
    out kernel taps."""
    name: str
    shape: Shape
    laid_out_as: Shape | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class Network(Record):
    """The network; `macs` are those of an image, `layers` their number."""
    name: str
    macs: int
    layers: int
    batch: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Chip:
    """The chip, in JSON with what follows from its keys."""
    arch: Arch

    def to_json(self) -> dict[str, Any]:
        """The fields of `Arch`, and `identity`, `macs_per_cycle` and `accumulator_bits`."""
        return self.arch.to_dict() | {
            "identity": f"{identity(self.arch):016x}", "macs_per_cycle": self.arch.macs_per_cycle,
            "accumulator_bits": self.arch.accumulator_bits}

    @classmethod
    def from_json(cls, data: Any, where: str) -> Self:
        """The reverse. Raises RecordError for what is no chip."""
        try:
            return cls(Arch(**{item.name: data[item.name] for item in fields(Arch)}))
        except KeyError as error:
            raise RecordError(f"{where}.{error.args[0]} is missing") from None
        except (TypeError, ValueError) as error:
            raise RecordError(f"{where} must be a chip's fields: {error}") from None


@dataclass(frozen=True)
class Clock(Record):
    """The clock that times are counted with, and where it comes from."""
    mhz: float
    source: str

    def images_per_second(self, batch: int, cycles: int) -> float:
        """Images a second of runs that compute `batch` images in `cycles` cycles."""
        return batch * self.mhz * 1e6 / cycles


@dataclass(frozen=True)
class Cycles(Record):
    """Cycles of a run by the cycle model, for a memory of this `latency`: in `total`, and from the
    first array pass to the last result (`compute`); what part of the array's multiply-accumulates
    was used in each."""
    total: int
    compute: int
    latency: int
    utilization: float
    compute_utilization: float
    images_per_second: float


@dataclass(frozen=True)
class ReportedLayer(Record):
    """A layer as the program has it, and what it costs; in JSON one object."""
    layer: Layer = field(metadata=FLAT)
    cost: Cost = field(metadata=FLAT)


@dataclass(frozen=True)
class Used(Record):
    """Words used of a memory's."""
    used: int
    of: int


@dataclass(frozen=True)
class Memory(Record):
    """External memory and program, in bytes and instructions; words of each memory on the chip, by
    names such as "weight_words"."""
    window_bytes: int
    image_bytes: int
    instructions: int
    sections: tuple[Section, ...]
    on_chip: dict[str, Used]


@dataclass(frozen=True)
class BoardFit(Record):
    """The board, the part on it and what that has, and whether the program fits its memory."""
    name: str
    part: str
    memory_bytes: int
    program_fits: bool
    has: Figures


@dataclass(frozen=True)
class Report(Record):
    """All of it.

    Attributes
    ----------
    units : dict
        For each unit the cycles of each state, as of `Counts`, by the cycle model.
    layers : tuple of ReportedLayer
    area : Area or None
        None: not measured.
    board : BoardFit or None
    host : dict of str to HostWork, or None
        What the host computes "before" and "after" the chip. None: not said.
    notes : tuple of Note, or None
        How results can differ from the network's own. None: not said.
    arithmetic : tuple of LayerEffort, or None
        Of the network's layers as they were read. None: not said.
    """
    network: Network
    chip: Chip
    clock: Clock
    cycles: Cycles
    units: dict[str, dict[str, int]]
    layers: tuple[ReportedLayer, ...]
    memory: Memory
    area: Area | None
    board: BoardFit | None = field(default=None, metadata=OPTIONAL)
    host: dict[str, HostWork] | None = field(default=None, metadata=OPTIONAL)
    notes: tuple[Note, ...] | None = field(default=None, metadata=OPTIONAL)
    arithmetic: tuple[LayerEffort, ...] | None = field(default=None, metadata=OPTIONAL)
