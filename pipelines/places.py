"""Where the stages read and write, relative to the project's root, where DVC starts them."""

from pathlib import Path

PARAMS = Path("params.yaml")

SOURCE = Path("data/source/images.json")
PERMUTATIONS = Path("data/permutations/images.json")
DOWNLOAD_REPORT = Path("results/download/report.json")
RAW = Path("data/raw/images.zip")

PROCESSED = Path("data/processed")
MANIFEST = PROCESSED / "manifest.csv"
PREPROCESS_REPORT = Path("results/preprocess/report.json")
AUGMENTATION_PICTURE = Path("results/preprocess/augmentation.png")

TRAIN = Path("results/train")
WEIGHTS = TRAIN / "model.safetensors"
NETWORK_SPEC = TRAIN / "network.json"
HISTORY = TRAIN / "history.csv"
RUN = TRAIN / "run.json"

EMBEDDINGS = Path("results/embeddings")
METRICS = Path("results/metrics/metrics.json")
METRICS_REPORT = Path("results/metrics/report.json")
CMC = Path("results/metrics/cmc.csv")
FIGURES = Path("results/figures")


def images_of(split: str) -> Path:
    """The split's uint8 array (N, H, W, 3)."""
    return PROCESSED / f"images_{split}.npy"


def embeddings_of(split: str) -> Path:
    """The split's features with their manifest rows."""
    return EMBEDDINGS / f"{split}.npz"
