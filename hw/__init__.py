"""The hardware in Amaranth, and the specifications that hardware, simulators and compiler share.

In the order in which data flows: `formats` and `arch` say what the numbers and the chip are,
`isa`, `program` and `layout` what stands in memory. `csr` and `sequencer` start a program, `tokens`
order its units; `axi` and `load` bring words in; `streamer`, `array`, `pe`, `accumulator` and
`compute` multiply and add; `post_lane` and `post` round; `store` writes out. `top` wires the core,
`boards` what stands around it.
"""
