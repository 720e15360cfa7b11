"""`python -m pipelines`: the command `msclnet`."""

from pipelines.cli import main

main()
