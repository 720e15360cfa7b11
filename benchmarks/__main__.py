"""All benchmarks, one after the other."""

from benchmarks import images, ranking


def main() -> None:
    """Print every table."""
    print("Input: augmented 288 x 144 training images on one core")
    images.main()
    print("\nRanking, one thread")
    ranking.main()


if __name__ == "__main__":
    main()
