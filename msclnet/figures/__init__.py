"""Arrays in, matplotlib figures out: no file is read and no choice is made from a configuration here."""
