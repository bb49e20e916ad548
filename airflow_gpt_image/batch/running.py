"""Run a batch's session on an event loop, out of reach of the signals that end a task."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor, wait

from airflow_gpt_image.batch.phases import Entry
from airflow_gpt_image.batch.session import Session
from airflow_gpt_image.batch.stop import Stop
from airflow_gpt_image.errors import TaskInterruptedError


def run(session: Session, stop: Stop) -> list[Entry]:
    """
    Run a session to its end, as :meth:`Session.run` has it.

    In a thread of its own: a signal's exception (execution_timeout) is raised wherever the main thread is. In
    the loop that could be right where the response to a submit is read, or where it is swallowed.
    """
    with asyncio.Runner() as runner, ThreadPoolExecutor(1) as thread:
        loop = runner.get_loop()
        work = loop.create_task(session.run())
        try:
            ended = thread.submit(loop.run_until_complete, work)
            while not ended.done():
                wait([ended], 1.0)  # not for ever: a signal right before a wait doesn't interrupt it
            return ended.result()
        except BaseException as error:
            stop.set(TaskInterruptedError(f"{type(error).__name__} ended the work."))
            loop.call_soon_threadsafe(work.cancel)
            # The loop itself may have been ended, but not what runs on it; leaving waits for it.
            thread.submit(loop.run_until_complete, work)
            raise
