"""The data report of preprocess: what the images are, and which of them are suspicious, as one HTML page."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from msclnet.datasets.records import SPLITS, Record, Split
from msclnet.images.duplicates import CORRELATION, DISTANCE, groups, near_pairs
from msclnet.images.table import Entry, open_array
from pipelines.stages import paths
from pipelines.stages.paths import fresh

MODALITIES = ("visible", "infrared")
MOST_PICTURES = 40  # of groups of one kind
MOST_IMAGES = 8  # in a picture
MOST_LINES = 500  # of a list of files
HEIGHT, WIDTH = 128, 64  # of an image in a picture
KINDS = ("in several splits", "under several identities", "of one identity")
Places = Mapping[int, tuple[Split, int]]  # number of an entry -> split and row of its array


@dataclass(frozen=True)
class Group:
    """Images that show the same picture."""

    members: Sequence[int]  # their numbers among all entries
    kind: str  # one of KINDS
    same_file: bool  # byte by byte
    names: Sequence[str]  # `split: path` of each


def find_groups(entries: Sequence[Entry]) -> list[Group]:
    """Exact and near duplicates, those in several splits first."""
    pairs = near_pairs([entry.measures for entry in entries if entry.measures])
    found = []
    for members in groups(pairs, len(entries)):
        records = [entries[i].record for i in members]
        splits, identities = ({getattr(r, name) for r in records} for name in ("split", "identity"))
        kind = KINDS[0] if len(splits) > 1 else KINDS[1] if len(identities) > 1 else KINDS[2]
        same_file = len({entries[i].sha256 for i in members}) == 1
        found.append(Group(members, kind, same_file, [f"{r.split}: {r.path}" for r in records]))
    return sorted(found, key=lambda group: KINDS.index(group.kind))


def write_data_report(
    entries: Sequence[Entry],
    refused: Sequence[tuple[Record, str]],
    *,
    dataset: str,
    labels: Mapping[int, str],
    found: Sequence[Group],
) -> None:
    """Write results/preprocess/report.html.

    Args:
        entries: Of all splits, in the order of the arrays' rows, with measures.
        refused: Files that are in no array, and why.
        dataset: Its title.
        labels: What the user calls each identity, where they have names.
        found: The duplicates.
    """
    from jinja2 import Environment

    rows = dict.fromkeys(SPLITS, 0)
    places = {}
    for number, entry in enumerate(entries):
        places[number] = entry.record.split, rows[entry.record.split]
        rows[entry.record.split] += 1
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    single = _one_modality(entries)
    page = environment.from_string(TEMPLATE).render(
        dataset=dataset,
        images=len(entries),
        identities=_identities(entries, labels),
        cells=_cells(entries),
        refused=refused[:MOST_LINES],
        refused_count=len(refused),
        single=[labels.get(identity, identity) for identity in single],
        single_picture=_picture(list(single.values()), places),
        kinds=[_kind(kind, [group for group in found if group.kind == kind], places) for kind in KINDS],
        extremes=_extremes(entries, places),
        distance=DISTANCE,
        correlation=CORRELATION,
    )
    fresh(paths.PREPROCESS_PAGE).write_text(page + "\n", encoding="utf-8")


def _kind(name: str, found: Sequence[Group], places: Places) -> dict[str, Any]:
    shown = [
        {"same_file": g.same_file, "names": g.names[:MOST_IMAGES], "picture": _picture(g.members, places)}
        for g in found[:MOST_PICTURES]
    ]
    files = sum(group.same_file for group in found)
    return {"name": name, "files": files, "pictures": len(found) - files, "shown": shown}


def _one_modality(entries: Sequence[Entry]) -> dict[int, int]:
    """Identities with images of one modality, and the number of an image of each."""
    seen: dict[int, set[str]] = {}
    first: dict[int, int] = {}
    for number, entry in enumerate(entries):
        seen.setdefault(entry.record.identity, set()).add(entry.record.modality)
        first.setdefault(entry.record.identity, number)
    return {identity: first[identity] for identity in sorted(seen) if len(seen[identity]) == 1}


def _identities(entries: Iterable[Entry], labels: Mapping[int, str]) -> list[dict[str, Any]]:
    rows: dict[int, dict[str, Any]] = {}
    for record in (entry.record for entry in entries):
        row = rows.setdefault(
            record.identity,
            {"number": record.identity, "split": record.split, "cameras": set(), "counts": {}},
        )
        row["cameras"].add(record.camera)
        row["counts"][record.modality] = row["counts"].get(record.modality, 0) + 1
    return [
        {
            "name": labels.get(number, ""),
            **row,
            "cameras": sorted(row["cameras"]),
            "counts": [row["counts"].get(modality, 0) for modality in MODALITIES],
        }
        for number, row in sorted(rows.items())
    ]


def _cells(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Images by split, modality and camera: counts, and the quantiles of what was measured."""
    cells: dict[tuple[int, int, int], list[Entry]] = {}
    for entry in entries:
        r = entry.record
        cells.setdefault((SPLITS.index(r.split), MODALITIES.index(r.modality), r.camera), []).append(entry)
    rows = []
    for (split, modality, camera), members in sorted(cells.items()):
        measures = [entry.measures for entry in members if entry.measures]
        identities = {entry.record.identity for entry in members}
        rows.append(
            {
                "names": (SPLITS[split], MODALITIES[modality], camera, len(identities), len(members)),
                "quantiles": [
                    np.percentile([getattr(one, name) for one in measures], (5, 50, 95))
                    for name in ("height", "width", "brightness", "sharpness")
                ],
            }
        )
    return rows


def _extremes(entries: Sequence[Entry], places: Places) -> list[tuple[str, str]]:
    """Pictures of the darkest, brightest and least sharp images of each modality."""
    shown = []
    for modality in MODALITIES:
        chosen = [
            i for i, entry in enumerate(entries) if entry.record.modality == modality and entry.measures
        ]
        for words, name, sign in (
            ("darkest", "brightness", 1),
            ("brightest", "brightness", -1),
            ("least sharp", "sharpness", 1),
        ):
            ordered = sorted(chosen, key=lambda i: sign * getattr(entries[i].measures, name))
            shown.append((f"{words} {modality} images", _picture(ordered, places)))
    return shown


def _picture(members: Sequence[int], places: Places) -> str:
    """Up to MOST_IMAGES images side by side, as the address of a JPEG; empty for none."""
    chosen = [places[i] for i in members[:MOST_IMAGES]]
    if not chosen:
        return ""
    strip = Image.new("RGB", (WIDTH * len(chosen), HEIGHT))
    for position, (split, row) in enumerate(chosen):
        image = Image.fromarray(np.asarray(open_array(paths.images_of(split))[row]))
        strip.paste(image.resize((WIDTH, HEIGHT)), (WIDTH * position, 0))
    data = io.BytesIO()
    strip.save(data, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Data report: {{ dataset }}</title><style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; display: block;
  overflow-x: auto; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #8885; }
th:first-child, td:first-child { text-align: left; }
td.text { text-align: left; }
img { max-width: 100%; height: auto; }
figure { margin: 1rem 0; } figcaption { font-size: .85rem; overflow-wrap: anywhere; }
.warning { border-left: 4px solid #d39e00; padding: .3rem .8rem; }
</style></head><body>
<h1>Data report: {{ dataset }}</h1>
<p>Images: {{ images }}. Identities: {{ identities | length }}; with images of one modality only: {{ single | length }}.
Refused files: {{ refused_count }}.</p>
<h2>Images by split, modality and camera</h2>
<p>Three numbers are the 5 %, 50 % and 95 % quantiles. Height and width are those of the files in pixels. Brightness is
the mean gray value (0 to 255); sharpness is the variance of the Laplacian at the size that is trained on.</p>
<table><thead><tr><th>Split</th><th>Modality</th><th>Camera</th><th>Identities</th><th>Images</th><th>Height</th>
<th>Width</th><th>Brightness</th><th>Sharpness</th></tr></thead><tbody>
{% for cell in cells %}
<tr>{% for name in cell.names %}<td>{{ name }}</td>{% endfor %}
{% for q in cell.quantiles %}<td>{{ "%.0f / %.0f / %.0f" | format(*q) }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table>
<h2>The same picture several times</h2>
<p>The same file (equal sha256), or nearly the same picture: perceptual hashes that differ in at most {{ distance }}
of 64 bits, and small gray copies that correlate with at least {{ correlation }}. A picture in several splits is a
leak: the model is scored on what it was trained on. A picture under several identities is a wrong label.</p>
<table><thead><tr><th>Groups of images</th><th>the same file</th><th>nearly the same</th></tr></thead><tbody>
{% for kind in kinds %}
<tr><td>{{ kind.name }}</td><td>{{ kind.files }}</td><td>{{ kind.pictures }}</td></tr>
{% endfor %}
</tbody></table>
{% for kind in kinds if kind.shown %}
<h3>{{ kind.name | capitalize }}</h3>
{% if kind.files + kind.pictures > kind.shown | length %}
<p>The first {{ kind.shown | length }} of {{ kind.files + kind.pictures }} groups.</p>
{% endif %}
{% for group in kind.shown %}
<figure><img src="{{ group.picture }}" alt="{{ group.names | length }} images that show the same picture">
<figcaption>{{ "The same file" if group.same_file else "Nearly the same" }}: {{ group.names | join(", ") }}</figcaption>
</figure>
{% endfor %}
{% endfor %}
{% if single %}
<h2>Identities with one modality</h2>
<p class="warning">{{ single | join(", ") }}. Nothing is learnt from them, and no query of theirs has a match.</p>
<figure><img src="{{ single_picture }}" alt="An image of each of the first of them"></figure>
{% endif %}
<h2>Refused files</h2>
{% if refused %}
<table><thead><tr><th>File</th><th>Reason</th></tr></thead><tbody>
{% for record, reason in refused %}
<tr><td>{{ record.path }}</td><td class="text">{{ reason }}</td></tr>
{% endfor %}
</tbody></table>
{% if refused_count > refused | length %}<p>and {{ refused_count - refused | length }} more</p>{% endif %}
{% else %}
<p>None.</p>
{% endif %}
<h2>The extremes</h2>
{% for title, picture in extremes if picture %}
<figure><img src="{{ picture }}" alt="The {{ title }}"><figcaption>The {{ title }}</figcaption></figure>
{% endfor %}
<h2>Images by identity</h2>
<details><summary>{{ identities | length }} identities</summary>
<table><thead><tr><th>Identity</th><th>Number</th><th>Split</th><th>Visible</th><th>Infrared</th><th>Cameras</th></tr></thead>
<tbody>
{% for row in identities %}
<tr><td>{{ row.name or row.number }}</td><td>{{ row.number }}</td><td>{{ row.split }}</td><td>{{ row.counts[0] }}</td>
<td>{{ row.counts[1] }}</td><td>{{ row.cameras | join(", ") }}</td></tr>
{% endfor %}
</tbody></table></details>
</body></html>"""
