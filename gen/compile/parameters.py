"""Which parameter words of a layer there are in external memory, and how much of the last one."""

from .layer import Layer

__all__ = ["parameter_tail", "parameter_words"]


def parameter_words(layer: Layer) -> int:
    """Parameter words of a layer's groups: without those of chunks after its last channel, where
    POST does not read them, and channels are written once."""
    arch, chunks = layer.arch, layer.arch.chunks
    if arch.activation.binary or not layer.in_order or (layer.spread and chunks > 1):
        return layer.groups * chunks
    used = layer.used_chunks(layer.groups - 1)
    if used >> arch.group_bits_of_post[1]:          # POST cannot leave the others out
        used = chunks
    return (layer.groups - 1) * chunks + used


def parameter_tail(layer: Layer) -> int:
    """Bytes of a layer's last parameter word: without the lanes after its last channel, whose
    parameters are 0, where they are more than an instruction of its own; where channels are written
    several times, those of one copy, if LOAD repeats them."""
    arch = layer.arch
    whole, words = arch.parameter_bytes, parameter_words(layer)
    if arch.activation.binary or layer.to_signs:        # there they are not 0
        return whole
    copy, part = divmod((arch.vector >> layer.spread) * arch.parameter_bits, arch.bus_bits)
    if layer.spread and words == 1 and not part and not copy & (copy - 1):
        return copy * arch.beat_bytes
    lanes = layer.lanes_from((words - 1) * arch.post_lanes)
    used = -(-max(1, lanes) * arch.parameter_bits // (8 * arch.beat_bytes)) * arch.beat_bytes
    if arch.side_taps and not used & (used - 1):        # which LOAD would repeat
        used += arch.beat_bytes
    return used if used < whole - (words > 1) * arch.instruction_bytes else whole
