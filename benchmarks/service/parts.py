"""The measurements; each returns a few rows of the table."""

from __future__ import annotations

import secrets
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import numpy as np
import psutil
from sqlalchemy import create_engine, insert, text

from benchmarks.service.load import measure
from benchmarks.service.processes import api, worker
from benchmarks.service.requests import (
    create_search,
    demo_photos,
    generation_s,
    new_photo,
    time_of_preview,
    wait_for_step,
    wait_until_done,
)
from zoodip_core.artifact import Concept, export_concept
from zoodip_core.base_models.catalog import Catalog
from zoodip_core.base_models.families import embedding_widths
from zoodip_core.base_models.fingerprint import fingerprint
from zoodip_core.service.database import Database
from zoodip_core.service.ids import new_id
from zoodip_core.service.jobs import leases, store
from zoodip_core.service.jobs.records import NewJob
from zoodip_core.service.jobs.states import JobKind
from zoodip_core.service.object_store import ObjectStore, concept_name
from zoodip_core.service.settings import ServiceSettings
from zoodip_core.service.tables import concepts

Row = tuple[str, str]
SERVICE = "api.app:create_app"
_POLLERS = 8


@contextmanager
def schema(postgresql: str) -> Iterator[str]:
    """Create an empty schema; yield its PostgreSQL URL and drop it at the end."""
    name = f"bench_{secrets.token_hex(4)}"
    engine = create_engine(postgresql.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    try:
        yield f"{postgresql}?options=-csearch_path%3D{name}"
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {name} CASCADE"))


def polls(folder: Path, database_url: str | None, seconds: float) -> list[Row]:
    """Measure status polls by eight clients, compared with a bare route. The two are interleaved."""
    environment = {"ZOODIP_DATA_DIR": str(folder)}
    label = "SQLite"
    if database_url is not None:
        label, environment["ZOODIP_DATABASE_URL"] = "PostgreSQL", database_url
    bare = api("benchmarks.service.processes:bare", "/bare", {})
    with api(SERVICE, "/livez", environment) as (port, process), bare as (other, other_process):
        made = [create_search(port, [new_photo(96, 96)], token=f"<t{k}>", steps=10) for k in range(_POLLERS)]
        paths = [f"/v1/personalizations/{job['id']}" for job in made]
        ours, theirs = [], []
        for _ in range(3):
            theirs.append(measure(other, other_process.pid, ["/bare"] * _POLLERS, seconds=seconds))
            ours.append(measure(port, process.pid, paths, seconds=seconds))
    best, least = max(ours, key=lambda load: load.per_s), max(theirs, key=lambda load: load.per_s)
    cpu, least_cpu = (min(load.cpu_ms for load in loads) for loads in (ours, theirs))
    return [
        (f"status polls, {label}", str(best)),
        (
            f"bare FastAPI route, with {label}",
            str(least),
        ),
        (f"ratio of rates, {label} (aim: at least 0.33)", f"{best.per_s / least.per_s:.2f}"),
        (
            f"server CPU per poll, {label}: ours, bare, ratio",
            f"{cpu:.2f} ms, {least_cpu:.2f} ms, {least_cpu / cpu:.2f}",
        ),
    ]


def uploads(folder: Path) -> list[Row]:
    """Measure the throughput of 6 × 10 MB, and the API's peak memory compared with one photo."""
    large = new_photo(2200, 1650, noise=True)
    padded = [large + b"\0" * (9_990_000 - len(large))] * 6
    with api(SERVICE, "/livez", {"ZOODIP_DATA_DIR": str(folder)}) as (port, process):
        create_search(port, [large], steps=10, token="<warm>")  # noqa: S106 (a concept's token)
        one = _peak_mb(process)
        started = time.perf_counter()
        for number in range(3):
            create_search(port, padded, steps=10, token=f"<t{number}>")
        seconds = (time.perf_counter() - started) / 3
        six = _peak_mb(process)
    return [
        ("upload of 6 × 10 MB (decoded, cleaned, stored)", f"{seconds:.2f} s, {60 / seconds:.0f} MB/s"),
        (f"API peak memory: 1 photo of {len(large) / 1e6:.1f} MB → 6 × 10 MB", f"{one:.0f} → {six:.0f} MB"),
    ]


def claims(database_url: str, label: str) -> list[Row]:
    """Measure claim latency with 10 and with 10,000 queued jobs."""
    settings = ServiceSettings(database_url=database_url)
    database = Database(settings.database)
    database.migrate()
    queued, medians = 0, []
    for size in (10, 10_000):
        with database.write() as connection:
            for number in range(queued, size + 30):
                store.add(connection, _new_job(number), 1e9 + number)
        queued = size + 30
        times = []
        for _ in range(30):
            started = time.perf_counter()
            with database.write() as connection:
                assert (
                    leases.claim_next(connection, JobKind.PERSONALIZATION, "w", time.time(), 30.0) is not None
                )
            times.append(time.perf_counter() - started)
        medians.append(statistics.median(times) * 1000)
    database.close()
    return [(f"claim, {label}: 10 → 10,000 queued", f"{medians[0]:.2f} → {medians[1]:.2f} ms")]


def drawing(folder: Path) -> list[Row]:
    """Measure first preview and generations with a real worker: idle, busy, and with 1,000 stored concepts."""
    environment = {"ZOODIP_DATA_DIR": str(folder)}
    photos = demo_photos()
    with api(SERVICE, "/livez", environment) as (port, _), worker(port, environment):
        generation_s(port, "a photo of a dog")  # loads the model
        started = time.perf_counter()
        made = create_search(port, photos, steps=200, checkpoint_every=20, n=2)
        first_preview = time_of_preview(port, made["id"]) - started
        wait_until_done(port, made["id"])
        one = generation_s(port, "a photo of a <bench>")
        _store_concepts(folder, 1000)
        thousand = generation_s(port, "a photo of a <bench> and a <c777>")
        idle = generation_s(port, "a photo of a dog")
        busy_job = create_search(port, photos, steps=100_000, n=2, token="<busy>")  # noqa: S106 (a concept's token)
        wait_for_step(port, busy_job["id"], 10)
        busy = generation_s(port, "a photo of a dog")
        httpx2.post(f"http://127.0.0.1:{port}/v1/personalizations/{busy_job['id']}/cancel")
    return [
        ("upload → first preview (20 steps, n = 2, model warm)", f"{first_preview:.1f} s"),
        ("generation (best of 5), worker idle", f"{idle:.2f} s"),
        ("generation (best of 5), a personalization running", f"{busy:.2f} s"),
        ("generation (best of 5) with 1 stored concept → two of 1,001", f"{one:.2f} → {thousand:.2f} s"),
    ]


def _new_job(number: int) -> NewJob:
    return NewJob(
        id=new_id("per"),
        kind=JobKind.PERSONALIZATION,
        owner="bench",
        base_model="emoji",
        token=f"<t{number}>",
        request={},
        total_steps=1,
        metadata={},
    )


def _peak_mb(process: subprocess.Popen[bytes]) -> float:
    status = Path(f"/proc/{psutil.Process(process.pid).pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1000


def _store_concepts(folder: Path, number: int) -> None:
    entry = Catalog.load().default
    assert entry.path is not None
    settings = ServiceSettings(data_dir=folder)
    objects, random, (width,) = (
        ObjectStore(settings.object_store),
        np.random.default_rng(0),
        embedding_widths(entry.path),
    )
    mark, rows = fingerprint(entry.path), []
    for k in range(number):
        vectors = random.standard_normal((1, width)).astype(np.float32) * 0.02
        concept = Concept(f"<c{k}>", "sd1", {"clip": vectors}, fingerprint=mark)
        objects.put(concept_name(f"con_bench{k}"), export_concept(concept, "diffusers"))
        rows.append(
            {"id": f"con_bench{k}", "owner": "local", "token": f"<c{k}>", "kind": "object", "vectors": 1}
        )
    shared = {"base_model": entry.name, "fingerprint": mark, "precision": "int8", "created_at": time.time()}
    database = Database(settings.database)
    with database.write() as connection:
        connection.execute(insert(concepts), [{**row, **shared} for row in rows])
    database.close()
