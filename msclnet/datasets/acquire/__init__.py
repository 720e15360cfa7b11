"""From the user's folder, archive or address to one archive of the wanted files."""
