"""Rendered pedestrians for six cameras: a data set that can be made anywhere, in SYSU-MM01's layout."""
