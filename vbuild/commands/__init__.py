"""What vbuild does, as functions: each composes rooms into one verb and returns a result.

- One file per command, with the function of the same name; ``import vbuild; vbuild.apply(...)``.
- A command neither prints nor asks; it reports progress through the objects that it is given.
"""
