"""From sections to a table, a picture and JSON."""
