"""Made-up results: every contestant of every group, with figures that a test may set."""

from __future__ import annotations

from benchmarks.cases import groups
from benchmarks.measure import Sample
from benchmarks.results import Report
from benchmarks.runner import Ran

MACHINE = {
    "processor": "a processor",
    "instructions": "SHA-NI",
    "cores": "2",
    "system": "Linux 6",
    "python": "3.11.0",
    "openssl": "3.0.0",
}
KERNELS = {"hashlib": 2e9, "sha256 x 3": 3.5e9}


def sample(wall=1.0, user=1.0, memory=30 << 20):
    return Sample(wall, user, 0.1, memory)


def results():
    """Every contestant costs one second, and 30 MiB."""
    return {
        name: Ran(2 * 10**9, 0.0, {label: [sample()] * 3 for label in group.contestants})
        for name, group in groups().items()
    }


def report(found=None, **other):
    settings = {"repetitions": 3, "quick": False, **other}
    found = results() if found is None else found
    return Report(machine=MACHINE, kernels=KERNELS, results=found, **settings)
