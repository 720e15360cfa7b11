"""What is there of a data set, whole or not, and the numbers that were published of it."""
