"""What a search leaves behind: ranking.json, a picture for each query, and a few lines of text."""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.telling import in_one_line

RANKING = "ranking.json"
SHOWN = 5  # in the text


def ranked(
    queries: Sequence[Path], gallery: Sequence[Path], order_QG: np.ndarray, similarities_QG: np.ndarray
) -> list[dict[str, Any]]:
    """Each query with its picture's name and its whole ranked gallery, ready for JSON.

    Args:
        queries, gallery: The files.
        order_QG, similarities_QG: As `msclnet.retrieval.search.rank_gallery` gives them.
    """
    return [
        {
            "path": str(query),
            "picture": f"ranking_{number}.png",
            "ranking": [
                {"rank": rank, "path": str(gallery[place]), "similarity": round(float(similarity), 6)}
                for rank, (place, similarity) in enumerate(
                    zip(places_G, similarities_G, strict=True), start=1
                )
            ],
        }
        for number, (query, places_G, similarities_G) in enumerate(
            zip(queries, order_QG, similarities_QG, strict=True), start=1
        )
    ]


def write_results(out: Path, report: dict[str, Any]) -> None:
    """Write ranking.json and the pictures. They are moved in when all are whole, in place of a former search's."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".new-") as folder:
        made = Path(folder)
        for query in report["queries"]:
            _draw(made / query["picture"], query, report)
        (made / RANKING).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        for former in out.glob("ranking_*.png"):
            if former.is_file() and not (made / former.name).exists():
                former.unlink()
        for path in sorted(made.iterdir()):
            os.replace(path, out / path.name)


def tell(out: Path, report: dict[str, Any]) -> None:
    """Print the best few of each query."""
    for query in report["queries"]:
        print(f"{in_one_line(query['path'])}: the most similar of {report['gallery_images']} images")
        for each in query["ranking"][:SHOWN]:
            print(f"{each['rank']:4}  {each['similarity']:6.3f}  {in_one_line(each['path'])}")
    pictures = len(report["queries"])
    print(f"{in_one_line(out / RANKING)} and {pictures} picture{'s' if pictures > 1 else ''} beside it")


def _draw(path: Path, query: dict[str, Any], report: dict[str, Any]) -> None:
    from msclnet.data.photos import read_image
    from msclnet.visualization.search_figure import search_figure
    from msclnet.visualization.style import save

    settings = report["settings"]
    best = query["ranking"][: settings["top"]]
    images = [
        read_image(Path(each["path"]), height=settings["height"], width=settings["width"])
        for each in (query, *best)
    ]
    figure = search_figure(
        images[0],
        images[1:],
        query_name=Path(query["path"]).name,
        gallery_names_K=[Path(each["path"]).relative_to(settings["gallery"]).as_posix() for each in best],
        similarities_K=[each["similarity"] for each in best],
        query_modality=settings["query_modality"],
        gallery_modality=settings["gallery_modality"],
        gallery_size=report["gallery_images"],
        model=_name(report["model"]),
    )
    save(figure, path)


def _name(identity: dict[str, str]) -> str:
    if "version" in identity:
        return f"{identity['address']} (version {identity['version']})"
    return f"{identity['folder']} (weights {identity['weights_sha256'][:12]})"
