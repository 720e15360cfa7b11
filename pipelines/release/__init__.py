"""From a run back to its state, and from a model to one file that proves itself."""
