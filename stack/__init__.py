"""
A scratch Airflow made of real components on this machine.

``dag.test()`` runs triggers inline and drops what a deferral stores, so it cannot show what a triggerer, a
lost worker or a restart do to a task. This package starts the real api-server, scheduler, dag-processor and
triggerer over a throwaway database, drives them over the public REST API, and leaves no process behind.
"""
