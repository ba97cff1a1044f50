"""The agent, ``cdr run``: does what is due whenever it is convenient, until told to stop.

A pure core and a thin shell around it::

    scheduler (jobs, records, clock, verdicts -> what to start now, how long to sleep)     pure
      elapsed (how long ago, whatever the clocks do), backoff, jobs, ledger (what is remembered)
    agent (loop: signals, configuration, locks) -> process (a child process per job)       shell
      policy (asks ``when``), surroundings (clocks, network), log, notify (systemd)
    units, systemd: the agent as a service

Each job is a child process: its memory is returned when it ends, a crash or a leak of one never
reaches the others, it is killed without leaving locks, and it holds the configuration that was in
force when it began. A start costs about 0.3 s, and there is none while nothing is due.
"""
