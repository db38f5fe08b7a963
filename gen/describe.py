"""What a program says about itself, as plain data: `Program.host`."""

from .tile import traffic

__all__ = ["describe"]


def _input(name, shape, graph, recipe, place, starts, arch):
    section, offset, size = place
    return {"name": name, "offset": starts[section] + offset, "bytes": size,
            "words": size // arch.activation_bytes, "shape": list(graph.tensors[name].shape),
            "map": list(shape), "layout": "activation", "taps": recipe,
            "note": recipe and "first layer's taps are laid out by the host"}


def _output(name, graph, raw, place, starts, lanes):
    section, offset, size = place
    shape, channels = list(graph.tensors[name].shape), lanes.get(name)
    return {"name": name, "offset": starts[section] + offset, "bytes": size,
            "shape": shape if channels is None else [len(channels), *shape[1:]], "map": shape,
            "channels": None if channels is None else channels.tolist(),
            "layout": "raw" if raw else "activation"}


def _kind(conv):
    """What a layer would be called: a kernel that covers the map is a dense layer."""
    _, height, width = conv.input_shape
    dense = tuple(conv.weight.shape[2:]) == (height, width) and not any(conv.pads)
    return "dense" if dense else "conv"


def _operand(operand):
    """What a layer's results are combined with, or None."""
    return operand and {"tensor": operand.tensor,
                        "operation": "product" if operand.product else "sum"}


def _function(conv):
    """How a layer's results bend, or None: "table", or "leaky" (two factors in every channel)."""
    return "table" if conv.table is not None else "leaky" if conv.below is not None else None


def _layer(conv, layer, plan, arch):
    input_bytes, weights = traffic(plan)
    return {
        "name": conv.name, "nodes": list(conv.nodes), "kind": _kind(conv), "macs": conv.macs,
        "input": conv.input, "output": conv.output, "input_shape": list(conv.input_shape),
        "output_shape": list(conv.output_shape), "kernel": list(conv.weight.shape[2:]),
        "stride": list(conv.stride), "dilation": list(conv.dilation), "pads": list(conv.pads),
        "pool": list(conv.pool), "pool_sum": bool(conv.pool_sum), "raw": bool(conv.raw),
        "weight_bits": conv.weight.size * arch.weight.width,
        "passes": layer.passes * sum(len(plan.sub_tiles(tile)) for tile in plan.tiles),
        "array_cycles": plan.cycles, "ideal_cycles": -(-conv.macs // arch.macs_per_cycle),
        "tiles": len(plan.tiles), "parts": len(plan.parts), "input_buffers": plan.buffers,
        "loop_order": plan.order, "column_group": plan.column_group,
        "operand": _operand(conv.operand),
        "function": _function(conv),
        "loaded_bytes": {"input": input_bytes if plan.buffers else 0, "weights": weights,
                         "operand": plan.operand_bytes},
    }


def describe(graph, layers, plans, recipes, placement, operands, where, sections, stream, peak,
             lanes):
    """`Program.host`: see `systolith.sim.host` for the fields."""
    arch, starts = stream.arch, sections.starts
    raw = {conv.output: bool(conv.raw) for conv in graph.layers}
    shapes = {name: tuple(recipes[name]["shape"]) if name in recipes else tensor.shape
              for name, tensor in graph.tensors.items()}
    inputs = [_input(item.name, shapes[item.name], graph, recipes.get(item.name),
                     where[item.name], starts, arch) for item in graph.inputs]
    outputs = [_output(name, graph, raw[name], where[name], starts, lanes)
               for name in dict.fromkeys(graph.outputs)]
    tensors = {}
    for name in shapes:
        if name in placement.maps or name in operands.maps or name in where:
            section, offset, size = where.get(name, (None, 0, 0))
            tensors[name] = {
                "shape": list(shapes[name]), "raw": raw.get(name, False),
                "channels": lanes[name].tolist() if name in lanes else None,
                "chip": placement.maps.get(name), "lives": list(placement.lives.get(name, [])),
                "operand": operands.maps.get(name),
                "operand_lives": list(operands.lives[name]) if name in operands.maps else [],
                "external": None if section is None else starts[section] + offset,
                "section": section, "bytes": size}
    return {
        "network": graph.name,
        "inputs": inputs, "outputs": outputs, "tensors": tensors,
        "input_offset": starts["inputs"], "input_bytes": sections.sizes["inputs"],
        "output_offset": starts["outputs"], "output_bytes": sections.sizes["outputs"],
        "layers": [_layer(conv, layer, plan, arch) for conv, layer, plan in
                   zip(graph.layers, layers, plans, strict=True)],
        "macs": graph.macs,
        "memory": sections.table(),
        "peak": {"activation_words": peak, "weight_words": stream.weights.peak,
                 "parameter_words": stream.parameters.peak,
                 "accumulator_words": stream.accumulators.peak,
                 **({"operand_words": operands.peak} if arch.operand_depth else {}),
                 **({"table_words": stream.tables.peak} if arch.table_depth else {})},
        "depth": {"activation_words": arch.activation_depth, "weight_words": arch.weight_depth,
                  "parameter_words": arch.parameter_depth,
                  "accumulator_words": arch.accumulator_depth,
                  **({"operand_words": arch.operand_depth} if arch.operand_depth else {}),
                  **({"table_words": arch.table_depth} if arch.table_depth else {})},
    }
