"""Building: a prepared plan in, a published model directory out.

- ``materials`` and ``prepare`` come before the first written byte; ``run`` runs tables on threads;
  ``output`` says whether there may be one; ``staging`` owns the directory that it is made in and
  what makes it appear at once; ``build`` is the front.
"""

from vbuild.build.build import Built, Sealed, build
from vbuild.build.materials import Material, locate, verify_inputs
from vbuild.build.output import attest_directory
from vbuild.build.prepare import Prepared, prepare

__all__ = [
    "Built",
    "Material",
    "Prepared",
    "Sealed",
    "attest_directory",
    "build",
    "locate",
    "prepare",
    "verify_inputs",
]
