"""Images as arrays: decoding, the table of all images, augmentation, sampling, batches."""
