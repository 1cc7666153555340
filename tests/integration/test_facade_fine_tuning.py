"""Files and fine-tuning jobs of the OpenAI façade without a worker: hostile archives, errors, ownership, expiry."""

from __future__ import annotations

import zipfile
from typing import Any

import openai
import pytest
from fastapi.testclient import TestClient

from api.facades import stored_files
from tests.integration.support.keys import make_key
from tests.integration.support.photos import photo
from tests.tooling.archives import zip_of
from zoodip_core.service import retention
from zoodip_core.service.database import Database
from zoodip_core.service.ids import creation_time
from zoodip_core.service.object_store import FILE_LIFETIME_S, ObjectStore
from zoodip_core.service.settings import ServiceSettings

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

_PHOTO = photo()
_LEARN: dict[str, Any] = {"model": "tiny", "suffix": "my-dog", "metadata": {"initializer": "dog"}}


def _upload(client: TestClient, content: bytes, headers: Any = None) -> Any:
    return client.post(
        "/v1/files",
        files={"file": ("dog.zip", content, "application/zip")},
        data={"purpose": "fine-tune"},
        headers=headers,
    )


def _create(client: TestClient, archive: bytes, **fields: Any) -> Any:
    """Upload an archive and create a job from it."""
    file_id = _upload(client, archive).json()["id"]
    return client.post("/v1/fine_tuning/jobs", json={**_LEARN, "training_file": file_id, **fields})


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (b"", "no ZIP file"),
        (zip_of(("../a.png", _PHOTO)), "'../a.png'"),
        (zip_of(("a.txt", b"x")), "0 images"),
    ],
    ids=["empty", "traversal", "no image"],
)
def test_hostile_archives_are_refused_before_they_are_unpacked(
    client: TestClient, settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch, archive: bytes, words: str
) -> None:
    """An archive that is not allowed gets 400, nothing of it is unpacked, and nothing is stored."""
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("an entry was opened"))
    answer = _upload(client, archive)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")
    assert words in answer.json()["error"]["message"]
    assert ObjectStore(settings.object_store).names("") == []


def test_damaged_images_are_refused_by_the_decoder(client: TestClient) -> None:
    """An entry that is no image, and one whose data are damaged, are refused when the job is created."""
    other = _create(client, zip_of(("a.png", b"text")))
    assert (other.status_code, other.json()["error"]["code"]) == (400, "invalid_image")
    damaged = bytearray(zip_of(("a.png", _PHOTO)))
    damaged[60] ^= 0xFF
    answer = _create(client, bytes(damaged))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "training_file")
    assert client.get("/v1/personalizations").json()["data"] == []


def test_captions_come_from_the_archive_or_the_metadata(client: TestClient) -> None:
    """Captions are in `.txt` files or in lines of the metadata, and follow the rules of `/v1/personalizations`."""
    archive = zip_of(
        ("photos/b.png", _PHOTO),
        ("photos/b.txt", "\ufeffa <my-dog>\n".encode()),
        ("photos/a.PNG", _PHOTO),
        ("photos/a.txt", b"the <my-dog>"),
        ("__MACOSX/photos/._a.PNG", b"x"),
        ("photos/.DS_Store", b"x"),
    )
    assert _create(client, archive).status_code == 200
    plain = zip_of(("a.png", _PHOTO), ("b.png", _PHOTO))
    lines = {"initializer": "dog", "token": "<my-cat>", "captions": "a <my-cat>\nthe <my-cat>"}
    job = _create(client, plain, metadata=lines).json()
    assert job["token"] == "<my-cat>"
    some = _create(client, zip_of(("a.png", _PHOTO), ("a.txt", b"a dog"), ("b.png", _PHOTO)), suffix="other")
    messages = {warning["code"]: warning["message"] for warning in some.json()["warnings"]}
    assert messages["caption_unused"] == "the text file of a.png is not used; it does not contain <other>"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"suffix": None}, "suffix"),
        ({"suffix": "?"}, "suffix"),
        ({"metadata": {}}, "metadata.initializer"),
        ({"metadata": {"initializer": "dog", "kind": "thing"}}, "kind"),
        ({"method": {"type": "dpo"}}, "method.type"),
        ({"method": {"type": "supervised", "supervised": "x"}, "metadata": {}}, "metadata.initializer"),
        ({"model": "gpt-9"}, "model"),
        ({"seed": -1}, "seed"),
        ({"suffix": "x" * 65}, "suffix"),
    ],
)
def test_invalid_jobs_name_the_field(client: TestClient, fields: dict[str, Any], param: str) -> None:
    """Each invalid field gets OpenAI's error object, and no job is created."""
    answer = _create(client, zip_of(("a.png", _PHOTO)), **fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (404 if param == "model" else 400, param)
    assert client.get("/v1/fine_tuning/jobs").json()["data"] == []


def test_job_is_that_of_the_native_api(client: TestClient) -> None:
    """Both APIs show one job; a paused one resumes; a taken token and a repeated key behave as in `/v1`."""
    official = openai.OpenAI(base_url="http://127.0.0.1/v1", api_key="x", http_client=client, max_retries=0)
    archive = zip_of(("a.png", _PHOTO))
    job = _create(client, archive, validation_file="file-1", hyperparameters={"n_epochs": "auto"}).json()
    assert job["warnings"][0]["field"] == "validation_file"
    assert client.get(f"/v1/personalizations/{job['id']}").json()["token"] == "<my-dog>"
    jobs = official.fine_tuning.jobs
    assert (jobs.pause(job["id"]).status, jobs.resume(job["id"]).status) == ("paused", "queued")
    with pytest.raises(openai.ConflictError) as taken:
        jobs.create(
            model="tiny", training_file=job["training_file"], suffix="my-dog", metadata={"initializer": "dog"}
        )
    assert taken.value.code == "token_taken"
    body: dict[str, Any] = {
        "model": "tiny",
        "training_file": job["training_file"],
        "suffix": "other",
        "metadata": {"initializer": "dog"},
        "extra_headers": {"Idempotency-Key": "one"},
    }
    assert jobs.create(**body).id == jobs.create(**body).id
    assert jobs.cancel(job["id"]).status == "cancelled"
    for call in (jobs.retrieve, jobs.cancel, jobs.list_events, jobs.checkpoints.list):
        with pytest.raises(openai.NotFoundError):
            call("ftjob-unknown")  # type: ignore[operator]


def test_files_belong_to_the_owner_and_expire(
    client: TestClient, settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another owner sees no file; the number is limited; after a day files are gone, and the purge deletes them."""
    alice, bob = (make_key(settings, owner=name, scopes=("read", "write")) for name in ("alice", "../bob"))
    monkeypatch.setattr(stored_files, "MAX_FILES", 1)
    archive = zip_of(("a.png", _PHOTO))
    file_id = _upload(client, archive, alice).json()["id"]
    full = _upload(client, archive, alice)
    assert (full.status_code, full.json()["error"]["code"]) == (429, "quota_exceeded")
    assert _upload(client, archive, bob).status_code == 200
    for path in (f"/v1/files/{file_id}", f"/v1/files/{file_id}/content"):
        assert client.get(path, headers=bob).status_code == 404
        assert client.get(path, headers=alice).status_code == 200
    body = {**_LEARN, "training_file": file_id}
    assert client.post("/v1/fine_tuning/jobs", json=body, headers=bob).status_code == 404
    objects, database = ObjectStore(settings.object_store), Database(settings.database)
    uploaded_at = creation_time(file_id)
    retention.purge_orphans(database, objects, settings, uploaded_at + FILE_LIFETIME_S - 60)
    assert len(objects.names("files/")) == 4
    monkeypatch.setattr(stored_files, "FILE_LIFETIME_S", -1.0)
    assert client.get(f"/v1/files/{file_id}", headers=alice).status_code == 404
    assert client.get("/v1/files", headers=alice).json()["data"] == []
    retention.purge_orphans(database, objects, settings, uploaded_at + FILE_LIFETIME_S + 60)
    database.close()
    assert objects.names("files/") == []
