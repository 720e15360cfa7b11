"""From a figure to a picture of the report."""

import io

from matplotlib.figure import Figure

from msclnet.visualization.style import DPI, styled
from pipelines.reporting.document import Picture


@styled()
def picture(name: str, figure: Figure, *, description: str, caption: str) -> Picture:
    """A figure as a PNG picture; equal figures give equal bytes.

    Args:
        name: The file's name without its ending.
        figure: Any figure.
        description: What a reader who does not see it should know.
        caption: Shown below.
    """
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return Picture(name=name, png=stream.getvalue(), description=description, caption=caption)
