"""Ranks a gallery for each query and scores the rankings by the data sets' published protocols."""

from msclnet.retrieval.ranking import Ranking, rank

__all__ = ["Ranking", "rank"]
