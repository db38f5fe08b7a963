"""The host's part of a build as one C file, for a Linux without Python."""

from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
from systolith.gen.kit.errors import UserError
from systolith.hw.spec import registers
from systolith.hw.spec.host import Input
from systolith.hw.spec.identity import identity
from systolith.sim.machine.cycles import cycles as model_cycles
from systolith.sim.model.edges import Decoder, Encoder
from systolith.sim.model.graph import Tensor
from systolith.sim.rtl.device import window_stride

from .build import PROGRAM, Build

__all__ = ["host_c"]

#: Steps of an `Encoder` with another number, those on a number alone, and those that move numbers.
_ARITHMETIC = ("add", "subtract", "multiply", "divide")
_SCALAR = ("clip", "sign", "round")
_MOVES = ("reshape", "transpose", "take")
#: Kinds of numbers in an input, such as channels with a mean each.
_MOST_KINDS = 64


@dataclass
class _Quantizer:
    """Codes of the ranges between thresholds: code n is that of numbers from threshold n - 1 on,
    below threshold n."""
    thresholds: np.ndarray
    codes: np.ndarray

    def encode(self, values: np.ndarray) -> np.ndarray:
        return self.codes[np.searchsorted(self.thresholds, values, "right")]


def _refuse(what: str, why: str) -> UserError:
    return UserError(f"{what} {why}, which host.c does not compute; use `systolith run`, or the "
                     "part of the network without it (--inputs, --outputs of `systolith build`)")


def _floats(keys: np.ndarray) -> np.ndarray:
    """float32 numbers from integers in their order, 0 standing for 0.0."""
    bits = np.where(keys < 0, (-keys) | 1 << 31, keys).astype(np.uint32)
    return bits.view(np.float32)


def _quantizer(encoder: Encoder, tensor: Tensor) -> _Quantizer:
    """The quantizer of a scalar `encoder`, found by bisection over all float32 numbers. Raises
    UserError where it is no monotone function."""
    number, form = replace(tensor, shape=(1, 1, 1)), tensor.format
    if form is None:
        raise _refuse(f"the input {encoder.name}", "is not quantized")

    def codes_of(values):
        with np.errstate(over="ignore"):
            return encoder.encode(values[:, None], number)[:, 0, 0, 0]

    def order(values):
        codes = codes_of(values)
        return codes if form.binary else form.ordered(codes)

    most = int(np.float32(np.finfo(np.float32).max).view(np.uint32))
    first, last = order(_floats(np.array([-most, most])))
    direction = 1 if last >= first else -1
    levels = direction * np.arange(first + direction, last + direction, direction) \
        if first != last else np.zeros(0, np.int64)
    # The smallest number whose result is at least the level: above `low`, at most `high`.
    low, high = np.full(len(levels), -most), np.full(len(levels), most)
    while (low + 1 < high).any():
        middle = (low + high) // 2
        reached = direction * order(_floats(middle)) >= levels
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    thresholds = _floats(high)
    made = _Quantizer(thresholds, codes_of(np.concatenate([_floats(np.array([-most])),
                                                           thresholds])))
    draw = np.random.default_rng(0)
    probes = np.concatenate([
        _floats(draw.integers(-most, most, 4096)), np.nextafter(thresholds, -np.inf), thresholds])
    probes = probes[np.isfinite(probes)]
    if not np.array_equal(made.encode(probes), codes_of(probes)):
        raise _refuse(f"the input {encoder.name}", "is quantized by no monotone function")
    return made


def _input_kinds(encoder: Encoder) -> tuple[np.ndarray, np.ndarray, list[list]]:
    """(which of the input's elements each element of the codes is, its kind, steps of each kind).
    Raises UserError for steps that no quantizer does."""
    index = np.arange(int(np.prod(encoder.shape))).reshape(1, *encoder.shape)
    columns: list[np.ndarray] = []              # operands, laid out as the index is
    names: list[tuple] = []
    for operation, operand in encoder.steps:
        if operation in _MOVES:
            index, *columns = (_moved(item, operation, operand) for item in (index, *columns))
        elif operation in _ARITHMETIC:
            names.append((operation, len(columns)))
            columns.append(np.broadcast_to(np.asarray(operand, np.float32), index.shape))
        elif operation in _SCALAR:
            names.append((operation, operand))
        else:
            raise _refuse(f"the input {encoder.name}", f"passes a {operation} of the host")
    table = np.stack([column.ravel() for column in columns], axis=1) if columns \
        else np.zeros((index.size, 0), np.float32)
    rows, kinds = np.unique(table, axis=0, return_inverse=True)
    if len(rows) > _MOST_KINDS:
        raise _refuse(f"the input {encoder.name}", f"has {len(rows)} kinds of numbers")
    return index.ravel(), np.reshape(kinds, -1), [
        [(name, row[place] if name in _ARITHMETIC else place) for name, place in names]
        for row in rows]


def _moved(array: np.ndarray, operation: str, operand) -> np.ndarray:
    if operation == "reshape":
        return array.reshape(1, *operand)
    return array.transpose(operand) if operation == "transpose" else (
        array.reshape(1, -1)[:, operand])


def _list(kind: str, name: str, values, form=str) -> str:
    lines, line = [], ""
    for value in values:
        text = form(value) + ", "
        if len(line) + len(text) > 96:
            lines.append(line.rstrip())
            line = ""
        line += text
    return f"static const {kind} {name}[] = {{\n" + "\n".join(
        f"    {text}" for text in [*lines, line.rstrip()]) + "\n};\n"


def _double(value) -> str:
    value = float(value)
    return value.hex() if np.isfinite(value) else f"{'-' if value < 0 else ''}INFINITY"


def _quoted(name: str) -> str:
    return '"' + "".join(c if c.isascii() and c.isprintable() and c not in '"\\?*' else "_"
                         for c in name) + '"'


def _quantizers(encoder: Encoder, tensor: Tensor) -> tuple[list[_Quantizer], np.ndarray,
                                                           np.ndarray]:
    """(quantizers, for each element of the codes which input element it is, which quantizer)."""
    fixed = any(operation == "constant" for operation, _ in encoder.steps)
    if fixed:                                   # whatever comes in, these are the codes
        codes = encoder.encode(np.zeros((1, *encoder.shape), np.float32), tensor).ravel()
        values, kinds = np.unique(codes, return_inverse=True)
        if len(values) > 256:
            raise _refuse(f"the input {encoder.name}", "is a constant of more than 256 codes")
        made = [_Quantizer(np.zeros(0, np.float32), np.array([value])) for value in values]
        return made, np.zeros(len(codes), np.int64), np.reshape(kinds, -1)
    order, kinds, steps = _input_kinds(encoder)
    made = [_quantizer(Encoder(encoder.name, (1,), tensor.name, step, encoder.low, encoder.high,
                               encoder.odd), tensor) for step in steps]
    return made, order, kinds


def _input(build: Build, number: int, item: Input, starts: dict[str, int]) -> tuple[str, str]:
    """(definitions, fields of the struct) of one of the program's inputs. `starts`: where the
    numbers of each ONNX input begin among an image's."""
    encoder = next(found for found in build.graph.encoders if found.tensor == item.name)
    made, order, kinds = _quantizers(encoder, build.graph.tensors[item.name])
    text = ""
    for n, quantizer in enumerate(made):
        text += _list("float", f"thresholds_{number}_{n}",
                      quantizer.thresholds if len(quantizer.thresholds) else [0],
                      lambda value: f"{float(value).hex()}f")
        text += _list("uint32_t", f"codes_{number}_{n}", quantizer.codes)
    text += f"static const struct quantizer quantizers_{number}[] = {{\n" + "".join(
        f"    {{{len(quantizer.thresholds)}, thresholds_{number}_{n}, codes_{number}_{n}}},\n"
        for n, quantizer in enumerate(made)) + "};\n"
    moved = not np.array_equal(order, np.arange(int(np.prod(encoder.shape))))
    if moved:
        text += _list("int32_t", f"order_{number}", order)
    if len(made) > 1:
        text += _list("uint8_t", f"kinds_{number}", kinds)
    channels, height, width = item.shape
    taps = item.taps
    if taps:
        (ny, nx), (dy, dx), (sy, sx), (py, px) = taps.taps, taps.dilation, taps.step, taps.pads
        _, map_height, map_width = taps.shape
        recipe = (ny, nx, dy, dx, sy, sx, py, px, taps.fill, int(taps.replicate),
                  taps.planes or 0, taps.plane_lanes or 0,
                  taps.windows.row_bytes if taps.windows else 0)
    else:
        map_height, map_width, recipe = height, width, (1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0,
                                                                    0, 0)
    fields = [_quoted(encoder.name), starts[encoder.name], channels, height, width,
              map_height, map_width, *recipe, item.word_bytes, item.offset, item.stride,
              f"quantizers_{number}", f"kinds_{number}" if len(made) > 1 else 0,
              f"order_{number}" if moved else 0]
    return text, ", ".join(map(str, fields))


def _output(build: Build, number: int, decoder: Decoder) -> tuple[str, str]:
    """(definitions, fields of the struct) of one of the network's outputs."""
    if decoder.rounding or decoder.half:
        raise _refuse(f"the output {decoder.name}", "is of a short float")
    tensor = build.graph.tensors[decoder.tensor]
    item = next(found for found in build.program.host.outputs if found.name == tensor.name)
    text, final = "", decoder.function is not None
    raw = tensor.format is None
    if tensor.format is not None:
        codes = np.arange(1 << tensor.format.width)
        if decoder.function is not None:
            least, table = decoder.function
            place = np.clip(tensor.format.ordered(codes) - least, 0, len(table) - 1)
            numbers = np.asarray(table)[place]
        else:
            numbers = tensor.decode(codes)
        text += _list("double", f"numbers_{number}", numbers, _double)
    if own := decoder.scale is None or decoder.offset is None:
        factors = tensor.scale, tensor.offset
    else:
        factors = decoder.scale, decoder.offset
    scale, add = np.broadcast_arrays(*(np.ravel(np.asarray(item)) for item in factors))
    text += _list("double", f"scale_{number}", scale, _double)
    text += _list("double", f"add_{number}", add, _double)
    slope = decoder.slope
    if slope is not None:
        text += _list("double", f"slope_{number}", np.ravel(slope), _double)
    if decoder.order is not None:
        text += _list("int32_t", f"out_order_{number}", decoder.order)
    if item.channels is not None:
        text += _list("int32_t", f"channels_{number}", item.channels)
    _, height, width = tensor.shape
    fields = [_quoted(decoder.name), decoder.rows * int(np.prod(decoder.shape)), height, width,
              item.offset, item.stride, int(raw), int(final),
              tensor.zero_point if own else 0, len(scale), 0 if slope is None else np.size(slope),
              _double(-np.inf if decoder.low is None else decoder.low),
              _double(np.inf if decoder.high is None else decoder.high),
              0 if raw else f"numbers_{number}", f"scale_{number}", f"add_{number}",
              0 if slope is None else f"slope_{number}",
              0 if decoder.order is None else f"out_order_{number}",
              0 if item.channels is None else f"channels_{number}"]
    return text, ", ".join(map(str, fields))


_STRUCTS = """\
struct quantizer {
    size_t count;
    const float *thresholds;
    const uint32_t *codes;
};
struct input {
    const char *name;
    int start, channels, height, width, map_height, map_width;
    int taps_y, taps_x, dilation_y, dilation_x, step_y, step_x, pad_y, pad_x;
    uint32_t fill;
    int replicate, planes, plane_lanes, row_bytes;
    size_t word_bytes, offset, stride;
    const struct quantizer *quantizers;
    const uint8_t *kinds;
    const int32_t *order;
};
struct output {
    const char *name;
    int count, height, width;
    size_t offset, stride;
    int raw, final;
    double zero_point;
    int parameters, slopes;
    double low, high;
    const double *numbers, *scale, *add, *slope;
    const int32_t *order, *channels;
};
"""


def _constants(build: Build, content: bytes) -> dict[str, object]:
    """Macros: registers, the program's file, whose bytes are `content`, and how words lie."""
    program, arch = build.program, build.arch
    host, number = program.host, identity(program.arch)
    return {
        **{name: f"{registers.address(name):#x}" for name in (
            "ID", "VERSION", "IDENTITY_LOW", "IDENTITY_HIGH", "CONTROL", "STATUS", "ERROR_ADDRESS",
            "WINDOW_BASE", "WINDOW_SIZE", "PROGRAM", "WATCHDOG", "CYCLES")},
        "ID_VALUE": f"{registers.ID:#x}", "VERSION_VALUE": registers.VERSION,
        "RESETTING": registers.STATUS_RESETTING, "RESET_IN_VAIN": int(registers.ErrorCode.RESET),
        "CHIP_LOW": f"{number & 0xFFFFFFFF:#x}u", "CHIP_HIGH": f"{number >> 32:#x}u",
        "PROGRAM_FILE_BYTES": len(content), "IMAGE_AT": content.index(bytes(program.image)),
        "IMAGE_BYTES": len(program.image), "CODE_OFFSET": program.code_offset,
        "WINDOW_BYTES": program.window_bytes, "BATCH": host.batch,
        "CORES": arch.cores, "CORE_BYTES": f"{1 << registers.CORE_BITS}u",
        "CORE_STRIDE": f"{window_stride(arch, program.window_bytes)}u",
        "TOGETHER": host.together, "INPUT_OFFSET": host.input_offset,
        "INPUT_BYTES": host.input_bytes, "OUTPUT_OFFSET": host.output_offset,
        "OUTPUT_BYTES": host.output_bytes, "VECTOR": arch.vector, "GROUP": arch.group,
        "GROUP_BYTES": arch.group_bytes, "WORD_BYTES": arch.activation_bytes,
        "CODE_BITS": arch.activation.width, "POST_LANES": arch.post_lanes,
        "RAW_BITS": arch.raw_bits, "RAW_BYTES": arch.raw_bytes, "INPUTS": len(host.inputs),
        "OUTPUTS": len(build.graph.decoders), "CYCLES_MODEL": model_cycles(program).cycles,
        "TIMEOUT_MS": 5000, "SILENCE_US": 200000}


def host_c(build: Build) -> str:
    """The text of a C file that runs a build: load, run, read, with nothing but a C library.

    The program that it makes reads `program.bin` and float32 numbers, and gives what
    `systolith run` gives, bit for bit. It needs a little-endian machine with Linux.

    Raises UserError for a network of which the host computes more than quantizing and dequantizing.
    """
    graph, host, arch = build.graph, build.program.host, build.arch
    for part, where in ((graph.head, "before"), (graph.tail, "after")):
        if part is not None:
            raise _refuse("the host", f"computes operators {where} the chip")
    if arch.raw_bits > 64:
        raise _refuse("the chip", f"has sums of {arch.raw_bits} bits")
    sizes = {encoder.name: int(np.prod(encoder.shape)) for encoder in graph.encoders}
    starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
    inputs = [_input(build, n, item, starts) for n, item in enumerate(host.inputs)]
    outputs = [_output(build, n, decoder) for n, decoder in enumerate(graph.decoders)]
    content = (build.folder / PROGRAM).read_bytes()
    constants = _constants(build, content) | {"IMAGE_FLOATS": sum(sizes.values())}
    own = resources.files("systolith.gen.flow") / "host.c"
    return (
        f"/* Runs {_quoted(graph.name)} on the chip {_quoted(arch.name)}, by one program.bin.\n"
        " * Written by Systolith.\n"
        " *\n"
        " *     cc -O2 -ffp-contract=off -o host host.c -lm\n"
        " *     ./host /dev/ttyUSB0 program.bin x.f32 y.f32\n"
        " */\n#define _DEFAULT_SOURCE\n"
        "#include <math.h>\n#include <stddef.h>\n#include <stdint.h>\n\n"
        + "".join(f"#define {name} {value}\n" for name, value in constants.items())
        + _list("uint8_t", "PROGRAM_HASH", content[-32:]) + "\n" + _STRUCTS
        + "static const char *const shapes = " + _quoted("; ".join(
            f"{encoder.name} [{', '.join(map(str, encoder.shape))}]" for encoder in
            {item.name: item for item in graph.encoders}.values())) + ";\n"
        + "".join(text for text, _ in inputs)
        + "static const struct input inputs[] = {\n"
        + "".join(f"    {{{fields}}},\n" for _, fields in inputs) + "};\n"
        + "".join(text for text, _ in outputs)
        + "static const struct output outputs[] = {\n"
        + "".join(f"    {{{fields}}},\n" for _, fields in outputs) + "};\n\n"
        + Path(str(own)).read_text())
