"""Records, data sets, transforms and batches."""
