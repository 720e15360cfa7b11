"""The report's sections, and the two ways of writing them: as a page and as Markdown."""
