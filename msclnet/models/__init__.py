"""Networks: two-stream extractors and the modality synergy module."""
