"""The torture's clients: programs that ``rds_router.lab`` starts as ``python -m rds_router.torture``.

    __main__     obeys one task, given as a line of JSON
    model        the tables                      contents    what a server holds at the end
    jar          the cookies: one for each client, shared by all processes
    ways         what a client goes through: rds_router, or a proxy
    client       serves clients, one request after another, and writes the history

They are programs of their own because that is what is tested: processes that share nothing but cookies. And because
the lab knows no router: it can torture anything that has such a program.
"""
