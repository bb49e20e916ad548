"""How long a batch trusts, waits and insists, as values that are handed in: tests hand in others."""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_gpt_image.api.downloads import Patience
from airflow_gpt_image.log import REPORT_EVERY


@dataclass(frozen=True)
class Timing:
    """
    The times of a batch, in seconds, and how fast it begins.

    :param renew_after: the lease is renewed before the next submit when its last write is so old.
    :param expires_after: nothing is submitted any more on a lease whose last write is so old.
    :param takeover_wait: a successor waits so long for a predecessor that didn't release its lease; longer
        than ``expires_after``, so that the predecessor submits nothing any more by then.
    :param lock_expires_after: a lock on a destination ends so long after its last renewal. Clocks of workers
        differ by less.
    :param lock_renew_every: pause between two renewals.
    :param clock_difference: a lock that has ended is respected for so long, since clocks differ.
    :param rewrite_after: an intent that waited for so long for its POST is written again, so that it says how
        long its answer may take.
    :param insist: an id that the destination doesn't take is written again and again for so long.
    :param insist_withdrawn: likewise that a submit was not accepted, which is no loss when it isn't written.
    :param write_pause: the longest pause between two such writes, or between two looks at an intent of an
        earlier attempt that may be under way.
    :param item_pause: before an item is tried again; doubled from time to time.
    :param longest_hold: a Retry-After that is longer stops the submitting: Airflow's retry waits, not a
        worker.
    :param longest_refusal: the rate limit refusing everything for so long stops the submitting, too.
    :param report_every: between two lines in the log that tell the progress.
    :param idle_after: with nothing happening for so long, it is checked whether waiting is all that is left.
    :param idle: with nothing happening for so long, waiting is all that is left: Airflow takes so long to
        start a worker again.
    :param idle_each: so much longer for each image of the batch: a worker that goes on reads as long what was
        stored before.
    :param patience: how long an image that doesn't arrive counts as late.
    :param longest_late_hold: an image that is asked for so soon again is waited for on the worker.
    :param first_rate: submits per second to begin with.
    :param senders: submits under way at a time. At a rate of 40 per second, an API that takes a second for
        each has so many under way.
    """

    renew_after: float = 3.0
    expires_after: float = 10.0
    takeover_wait: float = 15.0
    lock_expires_after: float = 600.0
    lock_renew_every: float = 60.0
    clock_difference: float = 60.0
    rewrite_after: float = 5.0
    insist: float = 150.0
    insist_withdrawn: float = 10.0
    write_pause: float = 3.0
    item_pause: float = 1.0
    longest_hold: float = 60.0
    longest_refusal: float = 600.0
    report_every: float = REPORT_EVERY
    idle_after: float = 0.25
    idle: float = 5.0
    idle_each: float = 0.002
    patience: Patience = field(default_factory=Patience)
    longest_late_hold: float = 5.0
    first_rate: float = 2.0
    senders: int = 64
