"""`python -m pipelines`: the command `msclnet`."""

from pipelines.cli import main

if __name__ == "__main__":
    main()
