"""The core: memories, array, post-processing, DMA, sequencer and their buses."""
