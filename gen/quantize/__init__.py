"""From a float network to a quantized one, with calibration data."""
