"""Item 12, the short form of benchmarks/soak.py: nothing grows, and nothing is left."""

from __future__ import annotations

from benchmarks.soak import Soak
from tests.conftest import ClusterFactory


def test_nothing_is_left_after_load_and_faults(lab_cluster: ClusterFactory) -> None:
    """Threads, files and the server's connections are those of before."""
    soak = Soak(lab_cluster("mariadb"))
    soak.run(6.0, every=0.5)
    assert soak.before is not None
    assert soak.left is not None
    assert soak.done["reads"] > 50
    assert soak.errors == {}
    assert soak.left.threads <= soak.before.threads
    assert soak.left.files <= soak.before.files
    assert soak.left.connections <= soak.before.connections
