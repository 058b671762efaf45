"""A new queue from what can be read of a damaged one.

SQLite gives up at the first damaged page it meets, and with it on all that lies behind that page. So the file is read
here page by page, by SQLite's documented format (sqlite.org/fileformat2.html, "F" below), and each row by itself: what
lies on pages that are whole is found whatever happened to the others.
"""
