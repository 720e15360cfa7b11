"""The data sets: who is on which image, what is published of each, and one archive of the raw images."""
