"""A gallery of people: images and their embeddings in a table that stays, searched and added to."""
