"""The same blog on two databases, in turns: which is faster at what, and is the difference more than noise?

1. :mod:`.place` makes a schema of its own on each, and removes it, or refuses.
2. :mod:`.blog` is the work: tables, first contents, and five operations through a :class:`~rds_router.RoutingSession`.
3. :mod:`.rounds` has clients do it, in slices that take turns.
4. :mod:`.figures` makes ratios with intervals of what they took. Pure.
5. :mod:`.showing` is for people and programs: table, picture, JSON.
"""
