"""One file for each part of the benchmarks: what is measured, and against what."""
