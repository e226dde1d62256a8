"""Torture: many clients, a seeded schedule of faults, and a check afterwards that every promise was kept.

    history      what clients did and saw          workload     what they do next
    schedule     the faults, from a seed           conductor    does them to a cluster of the lab
    checker      were the promises kept? (pure)    reading      what each read must have shown
    figures      throughput and outages            report, picture   for people
    run          all of it together                command      python -m rds_router.lab torture

The clients are programs of their own, started as ``python -m MODULE`` and told what to do in one line of JSON: the lab
knows no router. ``rds_router.torture`` are those that go through rds_router, or through a proxy.
"""
