"""
The whole gateway without sockets, database or clock, and clients that judge it.

    turned_loop  an event loop whose time passes when it is told to
    transport    a connection's other end
    tables       what Postgres holds, in memory, and its failures
    rooms        one gateway on them: door, ingest, feed, hub, parking, wheel
    rules        the 22 invariants, and whoever breaks one
    story        what one client was told of one file, judged event by event
    reports      what happens to a file, signed
    clients      streams, boards, long-polls, blocking GETs and senders
    machine      every step that can be taken, in any order
    seeded       steps that a seed chooses

`tests/unit/gateway/test_invariants.py` lets Hypothesis choose the steps, and
`bench.soak.invariants` a seed.
"""
