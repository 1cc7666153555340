"""`python -m worker`: start one worker process."""

from __future__ import annotations

from worker.app import app

if __name__ == "__main__":
    app.worker_main(
        [
            "--quiet",
            "worker",
            "--pool=threads",
            "--concurrency=2",  # a wake-up takes microseconds; the jobs run on the engine thread
            "--loglevel=WARNING",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )
