"""Builds a new queue from the readable parts of a damaged one.

SQLite stops at the first damaged page, and so loses everything that comes after it. Therefore this package reads the
file page by page and row by row, following SQLite's documented format (sqlite.org/fileformat2.html, cited as "F" in
this package): it finds the rows on undamaged pages, whatever happened to the others.
"""
