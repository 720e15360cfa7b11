"""Operations whose cost grows with the data, each at several sizes."""
