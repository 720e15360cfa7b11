"""Rendered people, and a small network that has learned to tell exactly these apart across the modalities."""

import hashlib
import io
import json
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from model_specs import spec
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

from msclnet.embedding import embed_images
from msclnet.gallery.schema import GalleryModel, schema_of
from msclnet.gallery.store import Gallery
from msclnet.images.table import file_digest
from msclnet.models.build import build_network
from msclnet.models.network import MSCLNet
from msclnet.synthetic.render import render_person

HEIGHT, WIDTH = 96, 48
IDENTITIES = range(1, 7)
VISIBLE, INFRARED = (1, 4), (3, 6)  # cameras
LEARNED = range(2)  # pictures of each person and camera that the network has seen; others are new to it
STEPS = 40


@cache
def picture(identity: int, camera: int, number: int) -> np.ndarray:
    """uint8 RGB (H, W, 3), as the renderer makes it."""
    return render_person(seed=0, identity=identity, camera=camera, image=number)


def write_picture(path: Path, identity: int, camera: int, number: int) -> Path:
    """The picture as an image file of the kind that the path names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(identity, camera, number)).save(path, quality=95)
    return path


def make_gallery(folder: Path, model: Path) -> Gallery:
    """Pictures of all people at c1, c4, c3 and c6, on 3 November 2026 at 8 + identity o'clock, as their names say."""
    network, digest = trained_network()[1], file_digest(model / "model.safetensors")
    description = GalleryModel(digest, str(model), HEIGHT, WIDTH, dimensions=network.backbone.channels)
    gallery = Gallery.create(folder, description)
    rows = []
    for identity in IDENTITIES:
        for camera in (*VISIBLE, *INFRARED):
            for number in LEARNED:
                rows.append(_row(network, identity, camera, number))
    gallery.add(pa.Table.from_pylist(rows, schema=schema_of(description)))
    return gallery


def _row(network: MSCLNet, identity: int, camera: int, number: int) -> dict[str, Any]:
    time = datetime(2026, 11, 3, 8 + identity, camera, number)
    path = f"/yard/c{camera}_{time:%Y%m%dT%H%M%S}_{identity}.jpg"
    pixels = _small(picture(identity, camera, number))
    crop = io.BytesIO()
    Image.fromarray(pixels).save(crop, "JPEG", quality=95)
    infrared = camera in INFRARED
    vector = embed_images(network, pixels[None], np.array([infrared]), batch=1)[1][0]
    return {
        "id": hashlib.sha256(path.encode()).hexdigest()[:20],
        "path": path,
        "sha256": hashlib.sha256(crop.getvalue()).hexdigest(),
        "size": len(crop.getvalue()),
        "modified": 0,
        "camera": f"c{camera}",
        "time": time,
        "modality": "infrared" if infrared else "visible",
        "crop": crop.getvalue(),
        "vector": (vector / np.linalg.norm(vector)).astype(np.float16),
    }


@cache
def trained_network() -> tuple[dict, MSCLNet]:
    """Its specification and the network, after two or three seconds of training."""
    torch.manual_seed(0)
    specification = {**spec(width=8), "identities": len(IDENTITIES)}
    network = build_network(specification, pretrained=False).train()
    rows = [(i, n) for i in IDENTITIES for n in LEARNED]
    visible, infrared = (
        torch.from_numpy(np.stack([_small(picture(i, c, n)) for c in cameras for i, n in rows]))
        for cameras in (VISIBLE, INFRARED)
    )
    identities = torch.tensor([i - 1 for _ in range(4) for i, _ in rows])
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(STEPS):
        pooled, _ = network.head(network.maps(visible, infrared))
        loss = F.cross_entropy(network.neck(pooled)[1], identities)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return specification, network.eval()


def write_model(folder: Path) -> Path:
    """The network as the pipeline leaves it in results/train, with the size of its images."""
    specification, network = trained_network()
    folder.mkdir(parents=True)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    (folder / "network.json").write_text(json.dumps(specification), encoding="utf-8")
    (folder / "report.json").write_text(json.dumps({"height": HEIGHT, "width": WIDTH}), encoding="utf-8")
    return folder


def _small(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
