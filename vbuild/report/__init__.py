"""Results as text and as JSON: what a person reads, and what a program reads.

- One module per command, with ``document(...)`` for the fields of its JSON and functions that give
  lines of text; neither prints.
- Names come from strangers: :mod:`lines` escapes every text on its way to a terminal, and
  :mod:`document` every lone surrogate.
- The same result gives the same text: nothing depends on the terminal's width, the locale or the
  directory, and no path is made absolute.
"""
