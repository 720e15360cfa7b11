"""Search by feature: distances, rankings, and the protocols that say who queries whom."""
