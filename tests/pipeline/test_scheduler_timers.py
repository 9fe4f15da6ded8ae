"""Snakemake's scheduler is woken by one timer at a time, however many jobs it has begun."""

import inspect
import time
from threading import Semaphore
from types import SimpleNamespace

from snakemake.scheduling.job_scheduler import JobScheduler

from phiforge.rule_params import look_for_jobs_once_a_second


def test_a_scheduler_has_one_timer() -> None:
    # What is replaced must be there; a Snakemake that names it otherwise has its storm again.
    assert "self._schedule_reevalutation(" in inspect.getsource(JobScheduler.schedule)
    original = JobScheduler._schedule_reevalutation
    try:
        look_for_jobs_once_a_second()
        scheduler = SimpleNamespace(_open_jobs=Semaphore(0))
        for _ in range(2):
            for _ in range(100):
                JobScheduler._schedule_reevalutation(scheduler, 0.05)
            time.sleep(0.5)
            assert scheduler._open_jobs.acquire(blocking=False)
            assert not scheduler._open_jobs.acquire(blocking=False)
    finally:
        JobScheduler._schedule_reevalutation = original
