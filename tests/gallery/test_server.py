"""The API over a gallery of rendered people, with a network that tells them apart."""

import base64
import csv
import io
import re
import shutil
import signal
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image
from rendered_people import HEIGHT, IDENTITIES, WIDTH, picture, trained_network
from safetensors.torch import load_file, save_file

from msclnet.datasets.archive import open_source
from msclnet.datasets.labels import read_labels
from msclnet.errors import UserError
from msclnet.gallery.pair_heatmap import pair_heatmap
from msclnet.gallery.store import FRESH, Gallery
from msclnet.images.decode import decode, resize
from pipelines.gallery import queries, server
from pipelines.gallery.service import SearchService
from pipelines.gallery.work import open_model_of, rebuild_gallery
from pipelines.search import open_model

Json = dict[str, Any]
LOCAL = "http://127.0.0.1:8300"


@pytest.fixture(scope="module")
def searching(gallery: Gallery) -> SearchService:
    return SearchService(gallery, open_model_of, name="yard")


@pytest.fixture(scope="module")
def client(searching: SearchService) -> TestClient:
    return TestClient(server.make_app(searching), base_url=LOCAL)


@pytest.fixture
def unmarked(gallery: Gallery) -> Iterator[None]:
    """Takes the test's marks away."""
    yield
    for mark in gallery.marks.all():
        gallery.marks.remove(mark.query, mark.image)


def file_of(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, kind)
    return data.getvalue()


def search(client: TestClient, data: bytes = b"", **options: Any) -> Json:
    response = client.post("/search", content=data, params=options)
    assert response.status_code == 200, response.text
    return response.json()


def refused(client: TestClient, data: bytes = b"", **options: Any) -> tuple[int, str]:
    response = client.post("/search", content=data, params=options)
    return response.status_code, str(response.json()["detail"])


def person(result: Json) -> int:
    return int(Path(result["path"]).stem.rpartition("_")[2])


@pytest.mark.parametrize("identity", IDENTITIES)
def test_an_unseen_infrared_picture_finds_the_persons_four_visible_ones_first(
    client: TestClient, identity: int
) -> None:
    found = search(client, file_of(picture(identity, 3, 5)), top=6)
    assert found["query"]["modality"] == "infrared"
    assert [each["rank"] for each in found["results"]] == [1, 2, 3, 4, 5, 6]
    assert [person(each) for each in found["results"][:4]] == [identity] * 4
    assert {each["modality"] for each in found["results"]} == {"visible"}


def test_results_are_those_of_the_gallery_itself(client: TestClient, gallery: Gallery) -> None:
    found = search(client, file_of(picture(2, 1, 5)), modality="any", top=48)
    pixels = decode(file_of(picture(2, 1, 5))).pixels
    small = np.asarray(Image.fromarray(pixels).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
    network = trained_network()[1]
    with torch.inference_mode():
        vector = network.embed(torch.tensor(small)[None], infrared=False)[1][0].numpy()
    ids = [each["id"] for each in found["results"]]
    stored = np.stack([gallery.vector(each) for each in ids]).astype(np.float32)
    expected = stored @ (vector / np.linalg.norm(vector))
    np.testing.assert_allclose([each["similarity"] for each in found["results"]], expected, atol=1e-4)
    assert sorted(expected, reverse=True) == pytest.approx(expected, abs=1e-4)
    assert len(set(ids)) == 48


def test_filters_keep_what_fits_them_alone(client: TestClient) -> None:
    data = file_of(picture(3, 3, 5))
    everything = search(client, data, top=200)["results"]
    times = {"after": "2026-11-03T10:00:00", "before": "2026-11-03T12:04:00"}
    found = search(client, data, top=200, camera=["c4"], **times)["results"]
    wanted = [
        each
        for each in everything
        if each["camera"] == "c4" and times["after"] <= each["time"] <= times["before"]
    ]
    assert [each["id"] for each in found] == [each["id"] for each in wanted]
    assert {person(each) for each in found} == {2, 3, 4}
    assert search(client, data, camera="c9")["results"] == []


def test_the_modality_is_the_users_where_he_gives_one(client: TestClient) -> None:
    found = search(client, file_of(picture(1, 3, 5)), query_modality="visible")
    assert found["query"]["modality"] == "visible"
    assert found["modality"] == "infrared"
    assert "infrared" in found["query"]["warning"]


def test_a_box_is_the_image_that_it_cuts_out(client: TestClient) -> None:
    person_3 = picture(3, 3, 5)
    height, width = person_3.shape[:2]
    frame = np.full((480, 640, 3), 90, np.uint8)
    frame[70 : 70 + height, 200 : 200 + width] = person_3
    boxed = search(client, file_of(frame), box=f"200,70,{width},{height}")
    alone = search(client, file_of(person_3))
    assert boxed["query"]["id"] == alone["query"]["id"]
    assert boxed["results"] == alone["results"]


@pytest.mark.parametrize("box", ["0,0,641,10", "-1,0,5,5", "10,10,0,5", "1,2,3", "a,b,c,d"])
def test_a_box_outside_of_the_image_is_refused(client: TestClient, box: str) -> None:
    status, detail = refused(client, file_of(np.zeros((480, 640, 3), np.uint8)), box=box)
    assert status == 400
    assert box in detail


def test_the_picture_of_a_query_gives_the_same_search_again(client: TestClient) -> None:
    first = search(client, file_of(picture(4, 6, 5), "JPEG"))
    kind, _, encoded = first["query"]["picture"].partition(",")
    assert kind == "data:image/webp;base64"
    again = search(client, base64.b64decode(encoded), query_modality="infrared")
    assert again["query"] == first["query"]
    assert again["results"] == first["results"]


def test_an_image_of_the_gallery_searches_and_leaves_itself_out(client: TestClient) -> None:
    first = search(client, file_of(picture(5, 3, 5)))["results"][0]
    found = search(client, image=first["id"], modality="any", top=7)
    assert found["query"]["id"] == first["id"]
    assert found["query"]["modality"] == "visible"
    assert first["id"] not in [each["id"] for each in found["results"]]
    assert [person(each) for each in found["results"]] == [5] * 7
    assert [each["rank"] for each in found["results"]] == list(range(1, 8))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no image", "no image file"),
        (file_of(picture(1, 1, 0))[:500], "damaged"),
        (b"P5 100000 100000 255\n", "too many pixels"),
    ],
)
def test_what_is_no_image_is_refused_with_its_reason(client: TestClient, data: bytes, words: str) -> None:
    status, detail = refused(client, data)
    assert status == 422
    assert words in detail


def test_too_large_a_file_is_read_no_further_than_the_limit(client: TestClient) -> None:
    sent = []

    def parts() -> Iterator[bytes]:
        for _ in range(40):
            sent.append(1)
            yield bytes(2**20)

    response = client.post("/search", content=parts())
    assert response.status_code == 413
    assert "16 MiB" in response.json()["detail"]


def test_a_search_needs_exactly_one_query(client: TestClient) -> None:
    assert refused(client)[0] == 400
    assert refused(client, file_of(picture(1, 1, 0)), image="abc")[0] == 400
    assert refused(client, image="abc") == (404, "abc: the gallery has no such image")
    assert refused(client, image="x' OR '1'='1")[0] == 404
    assert refused(client, file_of(picture(1, 1, 0)), top=0)[0] == 422


def test_images_are_served_by_their_id_alone(client: TestClient, gallery: Gallery) -> None:
    first = search(client, file_of(picture(1, 3, 5)))["results"][0]
    response = client.get(f"/{first['picture']}")
    assert response.headers["content-type"] == "image/jpeg"
    assert response.content == gallery.image(first["id"])
    for wrong in ("..%2F..%2Fetc%2Fpasswd", first["path"].replace("/", "%2F"), "%27 OR %271%27=%271"):
        assert client.get(f"/images/{wrong}").status_code == 404


def test_the_heat_map_is_that_of_the_pair(client: TestClient, gallery: Gallery) -> None:
    found = search(client, file_of(picture(2, 3, 5)))
    query, first = found["query"], found["results"][0]
    response = client.get(f"/pairs/{query['id']}/{first['id']}/heatmap")
    assert response.headers["content-type"] == "image/png"
    small = np.asarray(Image.fromarray(picture(2, 3, 5)).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
    images = np.stack([small, decode(gallery.image(first["id"])).pixels])
    expected = pair_heatmap(trained_network()[1], images, (True, False))
    np.testing.assert_array_equal(decode(response.content).pixels, expected)
    assert client.get(f"/pairs/infrared-0/{first['id']}/heatmap").status_code == 404
    assert client.get(f"/pairs/{first['id']}/{query['id']}/heatmap").status_code == 404


@pytest.mark.usefixtures("unmarked")
def test_marks_are_kept_shown_changed_and_removed(client: TestClient, model: Path, gallery: Gallery) -> None:
    found = search(client, file_of(picture(2, 3, 5)))
    pair = {"query": found["query"]["id"], "image": found["results"][0]["id"]}
    for mark in ("same", "another"):
        assert client.post("/marks", json={**pair, "mark": mark}).status_code == 200
        assert [each | {"marked": ""} for each in client.get("/marks").json()] == [
            {**pair, "mark": mark, "marked": ""}
        ]
        assert search(client, file_of(picture(2, 3, 5)))["results"][0]["mark"] == mark
    reopened = SearchService(Gallery.open(gallery.address), open_model_of, name="yard")
    assert [each["mark"] for each in reopened.marks()] == ["another"]
    assert client.post("/marks", json={**pair, "mark": None}).status_code == 200
    assert client.get("/marks").json() == []
    assert client.post("/marks", json={**pair, "image": "abc", "mark": "same"}).status_code == 404
    assert client.post("/marks", json={**pair, "mark": "perhaps"}).status_code == 422


@pytest.mark.usefixtures("unmarked")
def test_marks_are_exported_as_images_with_labels(client: TestClient, tmp_path: Path) -> None:
    query = picture(2, 3, 5)
    found = search(client, file_of(query), top=10)
    for each in found["results"]:
        mark = "same" if person(each) == 2 else "another"
        client.post("/marks", json={"query": found["query"]["id"], "image": each["id"], "mark": mark})
    rows = list(csv.DictReader(io.StringIO(client.get("/marks/export").text)))
    assert list(rows[0]) == ["path", "identity", "modality", "camera"]
    assert {row["path"] for row in rows[1:]} == {each["path"] for each in found["results"]}
    with zipfile.ZipFile(io.BytesIO(client.get("/marks/export", params={"images": True}).content)) as file:
        packed = list(csv.DictReader(io.StringIO(file.read("marks.csv").decode())))
        pixels = {row["path"]: decode(file.read(row["path"])).pixels for row in packed}
    assert [row | {"path": ""} for row in packed] == [row | {"path": ""} for row in rows]
    archive = tmp_path / "marks.zip"
    archive.write_bytes(client.get("/marks/export", params={"images": True}).content)
    labels = read_labels(
        open_source(archive), table="marks.csv", pattern=""
    )  # as training on own data reads it
    assert {(label.path, label.identity, label.modality) for label in labels} == {
        (row["path"], row["identity"], row["modality"]) for row in packed
    }
    assert rows[0]["path"] == packed[0]["path"]
    small = np.asarray(Image.fromarray(query).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(pixels[packed[0]["path"]], small)
    people: dict[str, set[str]] = {}
    for row in rows:
        people.setdefault(row["identity"], set()).add(row["path"])
    (joined,) = (paths for paths in people.values() if len(paths) > 1)
    assert joined == {rows[0]["path"], *(each["path"] for each in found["results"] if person(each) == 2)}
    assert len(rows) - len(people) == len(joined) - 1


@pytest.mark.usefixtures("unmarked")
def test_nothing_of_a_query_is_kept_on_the_disk_without_a_mark(client: TestClient, gallery: Gallery) -> None:
    def files() -> dict[str, int]:
        return {str(path): path.stat().st_size for path in Path(gallery.address).rglob("*") if path.is_file()}

    before = files()
    found = search(client, file_of(picture(6, 6, 5)))
    client.get(f"/pairs/{found['query']['id']}/{found['results'][0]['id']}/heatmap")
    assert files() == before


def test_the_memory_of_queries_is_bounded(
    client: TestClient, searching: SearchService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "KEPT_QUERIES", 3)
    ids = []
    for number in range(5):
        found = search(client, file_of(np.full((20, 10, 3), 40 * number, np.uint8)))
        ids.append((found["query"]["id"], found["results"][0]["id"]))
    answers = [client.get(f"/pairs/{query}/{image}/heatmap").status_code for query, image in ids]
    assert answers == [404, 404, 200, 200, 200]
    assert "msclnet_queries_in_memory 3.0" in client.get("/metrics").text


def test_searches_at_once_answer_as_one_after_the_other(client: TestClient) -> None:
    queries = [file_of(picture(identity, 3, 5)) for identity in IDENTITIES]
    one_by_one = [search(client, data)["results"] for data in queries]
    with ThreadPoolExecutor(len(queries)) as pool:
        at_once = list(pool.map(lambda data: search(client, data)["results"], queries))
    assert at_once == one_by_one


def test_a_search_does_not_wait_for_an_addition(client: TestClient, gallery: Gallery) -> None:
    entered, done = threading.Event(), threading.Event()

    def add() -> None:
        with gallery.locked():
            entered.set()
            assert done.wait(60)

    thread = threading.Thread(target=add)
    thread.start()
    assert entered.wait(60)
    try:
        assert person(search(client, file_of(picture(1, 3, 5)))["results"][0]) == 1
    finally:
        done.set()
        thread.join()


def test_what_the_server_says_about_itself(client: TestClient, gallery: Gallery) -> None:
    (found,) = client.get("/galleries").json()
    assert (found["name"], found["images"], found["newer"]) == ("yard", 48, None)
    assert found["cameras"] == {"c1": 12, "c3": 12, "c4": 12, "c6": 12}
    assert found["model"]["digest"] == gallery.model.digest
    assert client.get("/health").json() == {"status": "ok", "gallery": "yard", "images": 48}
    before, after = (
        float(re.search(r"(?m)^msclnet_searches_total (.+)$", text)[1])  # pyright: ignore
        for text in (
            client.get("/metrics").text,
            [search(client, file_of(picture(1, 3, 5))), client.get("/metrics").text][1],
        )
    )
    assert after == before + 1


def test_the_documentation_names_every_route_and_parameter(client: TestClient) -> None:
    text = client.get("/docs").text
    api = client.get("/openapi.json").json()
    assert {"/search", "/images/{id}", "/pairs/{query}/{id}/heatmap", "/marks", "/metrics"} <= set(
        api["paths"]
    )
    for path, methods in api["paths"].items():
        for method, route in methods.items():
            assert f"{method.upper()} {path}<" in text
            assert all(f"<code>{each['name']}</code>" in text for each in route.get("parameters", []))


@pytest.mark.parametrize("path", ["/", "/style.css", "/page.js", "/docs"])
def test_the_page_names_no_other_machine(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert "default-src 'self'" in response.headers["content-security-policy"]
    elsewhere = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", response.text)
    assert set(elsewhere) <= {"http://127.0.0.1", "http://www.w3.org"}  # the second is SVG's name


@pytest.mark.parametrize(("champion", "newer"), [("10", "10"), ("9", None), ("8", None), (None, None)])
def test_a_newer_champion_is_told(
    tmp_path: Path, gallery: Gallery, model: Path, champion: str | None, newer: str | None
) -> None:
    description = replace(gallery.model, address="models:/msclnet/9")
    registered = Gallery.create(tmp_path / "registered", description)
    opened = SearchService(
        registered, lambda _: open_model(str(model)), name="yard", champion=lambda: champion
    )
    assert opened.describe()["newer"] == newer


def test_a_running_service_opens_the_model_that_its_gallery_was_rebuilt_with(
    tmp_path: Path, gallery: Gallery, model: Path
) -> None:
    other = shutil.copytree(model, tmp_path / "other")
    state = load_file(other / "model.safetensors")
    mirrored = {name: value.flip(-1).clone() if value.ndim == 4 else value for name, value in state.items()}
    save_file(mirrored, other / "model.safetensors")
    yard = Gallery.create(tmp_path / "yard", gallery.model)
    yard.add(gallery.table.to_arrow())
    client = TestClient(server.make_app(SearchService(yard, open_model_of, name="yard")), base_url=LOCAL)
    before = search(client, file_of(picture(1, 3, 5)), top=24)["results"]
    rebuild_gallery(str(yard.address), model=str(other))  # another process's, for what `yard` knows of it
    time.sleep(FRESH.total_seconds())
    found = search(client, file_of(picture(1, 3, 5)), top=24)["results"]
    assert [each["id"] for each in found] != [each["id"] for each in before]
    opened = open_model(str(other))
    pixels = resize(picture(1, 3, 5), height=HEIGHT, width=WIDTH)
    query = opened.embed(pixels[None], np.array([True]))[0]
    for each in found:
        crop = decode(yard.image(each["id"])).pixels
        vector = opened.embed(crop[None], np.array([False]))[0]
        cosine = vector @ query / np.linalg.norm(vector) / np.linalg.norm(query)
        assert each["similarity"] == pytest.approx(cosine, abs=1e-3)


def test_other_names_of_this_machine_are_refused_on_loopback(searching: SearchService) -> None:
    app = server.make_app(searching)
    assert TestClient(app, base_url="http://evil.example").get("/health").status_code == 400
    assert TestClient(app, base_url="http://localhost:8300").get("/health").status_code == 200


def test_without_the_token_nothing_is_answered(searching: SearchService) -> None:
    app = server.make_app(searching, token="s3cret", host="0.0.0.0")
    client = TestClient(app, base_url="http://yard.example:8300", follow_redirects=False)
    for path in ("/", "/galleries", "/metrics", "/page.js", "/openapi.json"):
        assert client.get(path).status_code == 401
    assert client.post("/search", content=file_of(picture(1, 3, 5))).status_code == 401
    for wrong in ("", "Bearer ", "Bearer wrong", "Basic s3cret"):
        assert client.get("/galleries", headers={"Authorization": wrong}).status_code == 401
    assert client.get("/galleries", headers={"Authorization": "Bearer s3cret"}).status_code == 200
    assert "<form" in client.get("/", headers={"Accept": "text/html"}).text
    client.post("/token", content="token=wrong")
    assert client.get("/galleries").status_code == 401
    assert client.post("/token", content="token=s3cret").status_code == 303
    assert client.get("/galleries").status_code == 200


def test_serve_answers_until_it_is_interrupted(gallery: Gallery, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"--port {port}: .* another --port"):
            server.serve(gallery.address, host="127.0.0.1", port=port, token=None)
    answers: list[Json] = []

    def ask_and_interrupt() -> None:
        while not answers:
            try:
                answers.append(httpx.get(f"http://127.0.0.1:{port}/health").json())
            except httpx.TransportError:
                time.sleep(0.05)
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=ask_and_interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        server.serve(gallery.address, host="127.0.0.1", port=port, token=None)
    thread.join()
    assert answers == [{"status": "ok", "gallery": "yard", "images": 48}]
    assert f"http://127.0.0.1:{port}" in capsys.readouterr().out


def test_other_machines_are_served_with_a_token_alone() -> None:
    with pytest.raises(UserError, match=r"--host 0\.0\.0\.0.*MSCLNET_TOKEN"):
        server.serve("yard", host="0.0.0.0", port=8300, token=None)
