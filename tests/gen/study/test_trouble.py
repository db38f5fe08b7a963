"""What is done to a program to bring the core into trouble."""

from random import Random

import pytest
from systolith.gen.compile.tokens import synchronize
from systolith.gen.study.trouble import _UNKNOWN, _damaged
from systolith.hw.spec.instruction import decode
from systolith.sim.random.arch import random_arch
from systolith.sim.random.programs import random_program


@pytest.mark.parametrize("seed", range(12))
def test_an_instruction_that_there_is_not_is_none(seed):
    arch = random_arch(3)
    program = random_program(arch, seed, synchronize, 12)
    damaged, size = _damaged(program, _UNKNOWN, Random(seed)), arch.instruction_bytes
    refused = []
    for n, code in enumerate(program.instructions):
        place = program.code_offset + n * size
        word = damaged.image[place:place + size]
        if word != program.image[place:place + size]:
            with pytest.raises(ValueError, match="is no opcode"):
                decode(word)
            refused.append(n)
        else:
            assert decode(word).opcode == code.opcode
    assert len(refused) == 1
