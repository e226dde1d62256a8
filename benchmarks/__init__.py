"""Benchmarks for somebody who has to decide: what routing costs, what pooling saves, what replicas gain.

``make bench`` (``python -m benchmarks.run``) measures all of it on servers of the lab and writes a report. ``run.py``
says how a benchmark is added, ``report.py`` what it hands back, ``paired.py`` how two things are compared on a machine
that is never quiet. Not part of the package: nothing of ``rds_router`` imports it.
"""
